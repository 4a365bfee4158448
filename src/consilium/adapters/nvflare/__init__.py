# SPDX-License-Identifier: Apache-2.0
"""The engine of several machines: consilium's messages as opaque bytes over NVFlare.

    site_link          in a site's job process: plays a `SiteSession`
    coordinator_link   in the coordinator's job process: conducts a run
    envelope           what is around our bytes on the way
    launcher           starts a site's job process
    kits               start-up kits: NVFlare's provisioning, and what we close in them
    submission         the researcher's end: submit, progress, results

NVFlare brings mutual TLS, one outbound connection a site, processes and roles. Messages go
over its aux path (`send_aux_request`), not its polled tasks, and none of its serialised objects
hold ours. No rule of the protocol is here. Needs the extra `federation`.
"""
