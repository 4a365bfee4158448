# SPDX-License-Identifier: Apache-2.0
"""One value of every kind of view, full and empty: what every page is tried on."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Final

from consilium.federation.statement import NEIGHBOURS, Guarantee, Statement
from consilium.web.pages import words
from consilium.web.pages.office_views import (
    GroupLine,
    GroupsView,
    HealthLine,
    HealthView,
    PeopleView,
    PersonLine,
    PersonView,
    RoleLine,
    RolesView,
    SettingsView,
    SiteLine,
    SitesView,
)
from consilium.web.pages.parts import (
    Fact,
    Field,
    Form,
    Frame,
    Kind,
    Link,
    Notice,
    Option,
    Tag,
    Tone,
)
from consilium.web.pages.research_views import (
    BuilderView,
    Card,
    CatalogueView,
    LiveView,
    ModelLine,
    ModelsView,
    ModelView,
    ProjectLine,
    ProjectsView,
    Reference,
    RunLine,
    RunsView,
    SitePrice,
    SiteState,
    Spot,
    TagCount,
)
from consilium.web.pages.views import (
    ActionView,
    Allowed,
    Band,
    Budget,
    Check,
    DatasetLine,
    DatasetsView,
    DatasetView,
    Decided,
    ErrorView,
    GrantLine,
    InboxView,
    LogLine,
    LogView,
    Month,
    Person,
    Price,
    Request,
    ReviewView,
    Running,
    Spender,
    Task,
    TasksView,
    WhatIf,
)

NOW: Final = datetime(2026, 11, 20, 10, 3, tzinfo=UTC)
PROJECT: Final = "01JD3V6Z5QK8"
APPROVED: Final = Tag("approved", Tone.GOOD)
WORDS: Final = ("amber", "lantern", "river", "copper", "meadow", "violin")
FRAME: Final = Frame(
    office="Hospital A",
    user="Dr Anna Weber",
    roles="Data steward",
    here="/inbox",
    menu=tuple(
        Link(text, href)
        for text, href in (
            ("Inbox", "/inbox"),
            ("Datasets", "/datasets"),
            ("Projects", "/projects"),
            ("Runs", "/runs"),
            ("Models", "/models"),
            ("Log", "/log"),
            ("People", "/people"),
            ("Sites", "/sites"),
            ("Settings", "/settings"),
        )
    ),
)
PRICE: Final = Price(
    dataset="CXR-2024",
    patients=12_412,
    unit="patient",
    delta=1e-6,
    alone=1.8976,
    before=1.9166,
    after=2.7712,
    cap=8.0,
    fits=True,
)
BUDGET: Final = Budget(
    unit="patient",
    delta=1e-6,
    cap=8.0,
    used=1.9166,
    reserved=0.3951,
    free=5.6883,
    by_project=(
        Spender(name="Pneumonia X-ray CNN", href="/projects/1", alone=1.8976, share=0.82),
        Spender(name="Age histogram", href="/projects/2", alone=0.02, share=0.01),
        Spender(name="Seg. pilot", href="/projects/3", alone=0.44, share=0.17, reserved=True),
    ),
    by_month=tuple(
        Month(date(2026, month, 1), spent)
        for month, spent in ((6, 0.0187), (7, 0.62), (8, 1.05), (9, 1.31), (10, 1.72), (11, 1.9166))
    ),
    by_patient=(Band(0.0, 0.02, 608), Band(0.02, 1.0, 0), Band(1.0, 1.9166, 11_804)),
    opted_out=31,
    meaning=words.meaning(1.9166, 1e-6, "patient"),
    forecast="At the present rate it will be used up in April 2028. This is a guess, not a plan.",
    patients=12_443,
    patient_cap=8.0,
    exact=None,
)

# -- Forms ----------------------------------------------------------------------------

SIGN_IN: Final = ActionView(
    title="Sign in",
    cli="consilium account sign-in",
    form=Form(
        action="/sign-in",
        submit="Sign in",
        fields=(
            Field(name="email", label="Email address", kind=Kind.EMAIL, autocomplete="username"),
            Field(
                name="password",
                label="Password",
                kind=Kind.SECRET,
                autocomplete="current-password",
            ),
        ),
    ),
)
WRONG: Final = replace(
    SIGN_IN,
    form=SIGN_IN.form.with_answers(
        {"email": "anna@hospital-a.example"},
        {"password": "The address or the password is wrong. Try again, or ask for a new link."},
    ),
)
REVOKE: Final = ActionView(
    kind="Project",
    title="Revoke Pneumonia X-ray CNN",
    cli=f"consilium project revoke {PROJECT}",
    back=Link("Back to the project", f"/projects/{PROJECT}"),
    facts=(Fact("Spent so far", "epsilon 1.21 at delta 0.000001 per patient"),),
    happens=(
        "This hospital stops at its next step, within 10 seconds.",
        "The round that is under way goes on without this hospital; the others finish.",
        "What is reserved and not spent goes back into the budget.",
    ),
    stays=("What was released before cannot be called back. Its price stays spent.",),
    told=("The author, A. Rossi", "The other hospitals of the project"),
    form=Form(
        action=f"/projects/{PROJECT}/revoke",
        submit="Revoke this project",
        tone=Tone.STOP,
        back=Link("Keep it", f"/projects/{PROJECT}"),
        fields=(
            Field(
                name="confirm",
                label="Type the project's name to confirm",
                hint="Pneumonia X-ray CNN",
            ),
        ),
    ),
)
REFUSE: Final = ActionView(
    kind="Project",
    title="Refuse Pneumonia X-ray CNN",
    cli=f"consilium project refuse {PROJECT} --reason purpose",
    form=Form(
        action=f"/projects/{PROJECT}/refuse",
        submit="Refuse",
        back=Link("Back", f"/projects/{PROJECT}"),
        fields=(
            Field(
                name="template",
                label="Why do you refuse?",
                kind=Kind.CHOICE,
                value="price",
                options=(
                    Option(value="purpose", text="The purpose is not one we allow"),
                    Option(
                        value="price",
                        text="The price is too high",
                        hint="The author sees how much would fit.",
                    ),
                    Option(value="other", text="Another reason"),
                ),
            ),
            Field(
                name="reason",
                label="What should the author know?",
                kind=Kind.LINES,
                required=False,
            ),
        ),
    ),
)
TASKS: Final = TasksView(
    title="Set up this office",
    lead="Six steps. You can leave and come back; what is done stays done.",
    cli="consilium office init",
    tasks=(
        Task("Your account", "The first one; no password exists before.", "/", APPROVED),
        Task("Name of this hospital", "As others see it.", "/", APPROVED),
        Task("Rules", "Strict, standard or demo.", "/", Tag("next", Tone.INFORM)),
        Task("First dataset", "Where the data lie.", "/", Tag("not begun")),
        Task("Join a network", "With a code that you were given.", "/", Tag("not begun")),
        Task("Doctor", "Looks at clock, disk, keys and the way out.", "/", Tag("not begun")),
    ),
)
ERROR: Final = ErrorView(
    title="You may not open this page",
    status=403,
    happened="Only a data steward of this office may see the log.",
    advice="Ask for the role, or go back.",
    who="An administrator of Hospital A",
)

# -- Steward --------------------------------------------------------------------------

INBOX: Final = InboxView(
    cli="consilium project list --waiting",
    needs_you=(
        Request(
            id=PROJECT,
            name="Pneumonia X-ray CNN",
            author="Imperial, A. Rossi",
            since=NOW,
            waiting="2 h",
            wants="Wants CXR-2024 for training: 30 rounds of federated-dp.",
            prices=(PRICE,),
            checks=(
                Check(passed=True, text="No foreign code runs here"),
                Check(passed=True, text="Differential privacy is on, for every patient"),
                Check(passed=True, text="Secure sum over at least 3 hospitals"),
                Check(passed=False, text="The first project by this group"),
            ),
        ),
    ),
    running=(
        Running(
            id="r1",
            project="Age and sex in CXR-2024",
            project_id="2",
            state=Tag("running", Tone.GOOD),
            round=17,
            rounds=30,
            epsilon=1.2066,
            granted=1.9,
            delta=1e-6,
        ),
    ),
    decided=(
        Decided(
            id="3",
            name="Hip fractures",
            state=Tag("refused", Tone.STOP),
            by="Dr Anna Weber",
            when=NOW,
            reason="the purpose is not one we allow",
        ),
    ),
    asks=(Link("Hospital C asks to be associated", "/sites"),),
)
REVIEW: Final = ReviewView(
    id=PROJECT,
    title="Pneumonia X-ray CNN",
    state=Tag("under review", Tone.WAIT),
    turn="It is your turn",
    author="A. Rossi, Imperial",
    submitted=NOW,
    purpose="Recognise pneumonia in children's chest X-rays, so that a ward without a "
    "radiologist at night knows whom to look at first.",
    ethics="REC 26/LO/0412",
    data_use=("DS: disease-specific research", "NPUNCU: not for profit"),
    leaves=(
        "30 noisy, masked sums of clipped gradients, one a round: 2,178 numbers of 16 bits each",
        "one signed public key",
        "the number of training patients, once",
    ),
    stays=("Images, rows and labels", "Names and other identifiers of patients"),
    prices=(PRICE,),
    what_if=WhatIf(
        dataset="CXR-2024",
        lowest=0.1,
        highest=1.8976,
        step=0.05,
        rounds=30,
        asked=Allowed(epsilon=1.0, rounds=11, remains=5.4321, more=5, quality=0.871),
    ),
    meaning=words.meaning(2.7712, 1e-6, "patient"),
    people=(
        Person(name="A. Rossi", role="author", organisation="Imperial", key="ed25519 4f1c 88a0"),
        Person(name="B. Okafor", role="researcher", organisation="Imperial", key=""),
    ),
    parameters=(
        Fact("Arm", "federated-dp", "Each hospital adds a share of the noise."),
        Fact("Model", "wavelet, 2,178 weights"),
        Fact("Rounds", "30"),
        Fact("Noise multiplier", "2.37"),
        Fact("Clip norm, L2", "1"),
    ),
    fingerprint=WORDS,
    digest="5f0c" * 16,
    difference="training.rounds: 20 -> 30",
    conditions=(Fact("Ends", "2027-03-31", "in 131 days"), Fact("Runs", "at most 3")),
    signatures=(
        Decided(id="b", name="Hospital B", state=APPROVED, by="Dr Lin", when=NOW, reason=""),
    ),
    questions=(),
    actions=(
        Link("Approve", f"/projects/{PROJECT}/approve"),
        Link("Ask a question", f"/projects/{PROJECT}/ask"),
        Link("Refuse", f"/projects/{PROJECT}/refuse"),
    ),
    cli=f"consilium project show {PROJECT}",
)
DATASETS: Final = DatasetsView(
    cli="consilium dataset list",
    actions=(Link("Register a dataset", "/datasets/new"),),
    datasets=(
        DatasetLine(
            id="01JD",
            name="CXR-2024",
            size="12,412 patients",
            unit="patient",
            delta=1e-6,
            used=1.9166,
            cap=8.0,
            state=Tag("open", Tone.GOOD),
            tags=("x-ray", "children"),
        ),
        DatasetLine(
            id="01JE",
            name="Hippocampus MR",
            size="130 patients",
            unit="patient",
            delta=1e-4,
            used=0.0,
            cap=2.0,
            state=Tag("frozen", Tone.INFORM),
            tags=("mr",),
        ),
    ),
)
DATASET: Final = DatasetView(
    id="01JD",
    title="CXR-2024",
    state=Tag("open", Tone.GOOD),
    description="Chest X-rays of children, two classes, as 64 x 64 images.",
    facts=(
        Fact("Patients", "12,412"),
        Fact("Records", "18,930"),
        Fact("Classes", "normal, pneumonia"),
        Fact("Fingerprint", "sha256 5f0c5f0c..."),
    ),
    tags=("x-ray", "children"),
    budget=BUDGET,
    grants=(
        GrantLine(
            id="g1",
            who="Group Paediatrics",
            what="training",
            purpose="DS: disease-specific research",
            epsilon=2.0,
            until=date(2027, 3, 31),
            state=Tag("in force", Tone.GOOD),
        ),
    ),
    actions=(
        Link("Lower the cap", "/datasets/01JD/cap"),
        Link("Ask to raise the cap", "/datasets/01JD/raise"),
        Link("Freeze", "/datasets/01JD/freeze"),
    ),
    cli="consilium ledger show 01JD",
)
LOG: Final = LogView(
    entries=tuple(
        LogLine(
            sequence=number,
            when=NOW,
            sentence=sentence,
            action=action,
            link="a1b2c3d4e5f6" * 5,
        )
        for number, sentence, action in (
            (1204, "Dr Anna Weber approved Pneumonia X-ray CNN.", "project.approve"),
            (1203, "A. Rossi submitted Pneumonia X-ray CNN.", "project.submit"),
            (1202, "Round 17 of Age and sex was charged to CXR-2024.", "ledger.commit"),
        )
    ),
    total=1204,
    filters=Form(
        action="/log",
        method="get",
        submit="Filter",
        fields=(Field(name="q", label="Words", required=False),),
    ),
    checked=Notice(Tone.GOOD, "The chain is intact.", "1,204 entries were checked."),
    witness="last co-signed by Hospital B, 2026-11-20 10:03",
    older=Link("Older entries", "/log?before=1202"),
    cli="consilium log show",
)

# -- Researcher -----------------------------------------------------------------------

CATALOGUE: Final = CatalogueView(
    cli='consilium catalogue search "x-ray"',
    sites=3,
    search=Form(
        action="/catalogue",
        method="get",
        submit="Search",
        fields=(Field(name="q", label="Words", value="x-ray", required=False),),
    ),
    tags=(
        TagCount("x-ray", 2, "/catalogue?tag=x-ray", True),
        TagCount("children", 1, "/catalogue?tag=children", False),
    ),
    cards=tuple(
        Card(
            site=site,
            id=f"d{site}",
            name=f"CXR of {site}",
            href="/catalogue/x",
            description="Chest X-rays of children, two classes, as 64 x 64 images.",
            size="fewer than 10,000 patients",
            task="classification",
            tags=("x-ray", "children"),
            free=free,
        )
        for site, free in (("Hospital A", "high"), ("Hospital B", "medium"), ("Hospital C", "low"))
    ),
)
PROJECTS: Final = ProjectsView(
    cli="consilium project list",
    actions=(Link("New project", "/projects/new"),),
    projects=(
        ProjectLine(
            id=PROJECT,
            name="Pneumonia X-ray CNN",
            state=Tag("under review", Tone.WAIT),
            turn="Hospital A, since 2 h",
            changed=NOW,
            sites=("Hospital A", "Hospital B"),
        ),
    ),
)
BUILDER: Final = BuilderView(
    cli="consilium project price project.toml",
    form=Form(
        action="/projects/new",
        submit="Work out the price",
        fields=(
            Field(name="name", label="Name", value="Pneumonia X-ray CNN"),
            Field(name="purpose", label="Purpose, in plain words", kind=Kind.LINES),
            Field(
                name="datasets",
                label="Datasets",
                kind=Kind.SEVERAL,
                value="a,b",
                options=(
                    Option(value="a", text="Hospital A, CXR-2024"),
                    Option(value="b", text="Hospital B, CXR"),
                ),
            ),
            Field(name="epsilon", label="Target epsilon", kind=Kind.NUMBER, value="1.9"),
        ),
    ),
    prices=tuple(
        SitePrice(site=site, dataset="CXR", epsilon=1.95, delta=1e-6, unit="patient")
        for site in ("Hospital A", "Hospital B", "Hospital C")
    ),
    total=(Fact("Rounds", "30"), Fact("Sites", "3")),
    problem=None,
)
LIVE: Final = LiveView(
    id="r1",
    title="Pneumonia X-ray CNN",
    project_id=PROJECT,
    state=Tag("running", Tone.GOOD),
    round=17,
    rounds=30,
    epsilon=1.2066,
    granted=1.9,
    delta=1e-6,
    unit="patient",
    view="a curious participant",
    left="4 min",
    measure="AUC",
    spots=tuple(
        Spot(number, 0.1 + 0.0651 * number, 0.55 + 0.36 * (1 - 0.86**number))
        for number in range(1, 18, 2)
    ),
    references=(
        Reference(arm="central", quality=0.965, source="reference on public data"),
        Reference(arm="federated", quality=0.958, source="reference on public data"),
        Reference(arm="central-dp", quality=0.931, source="reference on public data"),
        Reference(arm="federated-local-dp", quality=0.742, source="reference on public data"),
    ),
    sites=(
        SiteState(name="Hospital A", state=APPROVED, step="sent", seconds=3.1, spent=1.2, cap=8.0),
        SiteState(name="Hospital B", state=APPROVED, step="sent", seconds=2.8, spent=1.2, cap=6.0),
        SiteState(
            name="Hospital C",
            state=Tag("late", Tone.WAIT),
            step="computing",
            seconds=None,
            spent=1.2,
            cap=None,
        ),
    ),
    looks="The validation records of this run are public.",
    actions=(Link("Pause", "/runs/r1/pause"), Link("Stop", "/runs/r1/stop")),
    cli="consilium run watch r1",
    moving=True,
    stream="/runs/r1/events",
)
RUNS: Final = RunsView(
    cli="consilium run list",
    runs=(
        RunLine(
            id="r1",
            project="Pneumonia X-ray CNN",
            state=Tag("running", Tone.GOOD),
            started=NOW,
            round=17,
            rounds=30,
            epsilon=1.2066,
            delta=1e-6,
        ),
    ),
)
STATEMENT: Final = Statement(
    private=True,
    unit="patient",
    neighbouring_relation=NEIGHBOURS,
    delta=1e-6,
    guarantees=(
        Guarantee(view="outsider", who="anyone", epsilon=1.8976, membership_advantage=0.72),
        Guarantee(view="participant", who="a site", epsilon=1.95, membership_advantage=0.74),
    ),
    mechanism="sum of clipped gradients plus rounded Gaussian noise",
    sampling="Poisson, each patient independently",
    sampling_probability=0.2,
    noise_multiplier=2.3731,
    l2_clip_norm=1.0,
    steps_charged=30,
    steps_allowed=30,
    accountant="PLD, dp-accounting",
    rounding_slack=3.2e-7,
    trusted="each site, with its own data",
    public=("number of training patients, 300",),
    not_covered=("patients of the test set",),
    fails_if=("two sites pool what they know", "a site adds no noise"),
)
MODELS: Final = ModelsView(
    cli="consilium model list",
    models=(
        ModelLine(
            id="m1",
            name="Pneumonia X-ray CNN",
            version="3",
            created=NOW,
            epsilon=1.8976,
            delta=1e-6,
            tags=(Tag("downloaded", Tone.GOOD), Tag("asked, encrypted", Tone.INFORM)),
        ),
    ),
)
MODEL: Final = ModelView(
    id="m1",
    title="Pneumonia X-ray CNN",
    version="3",
    state=Tag("released", Tone.GOOD),
    lineage=(
        Fact("Project", "Pneumonia X-ray CNN", "amber lantern river copper meadow violin"),
        Fact("Sites", "Hospital A, Hospital B, Hospital C"),
        Fact("Rounds", "30 of 30"),
    ),
    quality=(Fact("Test AUC", ".937", "95 % CI .916 to .955"),),
    statement=STATEMENT,
    promise=(Fact("Epsilon", "1.95"), Fact("Delta", "0.000001")),
    meaning=words.meaning(1.95, 1e-6, "patient"),
    permissions=(Fact("Download", "yes"), Fact("Remote inference", "encrypted only")),
    downloads=(Link("Weights, safetensors", "/models/m1/weights"),),
    versions=(Link("Version 3", "/models/m1"), Link("Version 2", "/models/m0")),
    actions=(),
    verify="consilium verify certificate.json",
    cli="consilium model show m1",
)

# -- Office ---------------------------------------------------------------------------

PEOPLE: Final = PeopleView(
    cli="consilium user list",
    search=Form(
        action="/people",
        method="get",
        submit="Search",
        fields=(Field(name="q", label="Name or address", required=False),),
    ),
    actions=(Link("Invite a person", "/people/new"), Link("Roles", "/roles")),
    people=(
        PersonLine(
            id="p1",
            name="Dr Anna Weber",
            email="anna@hospital-a.example",
            roles=("Owner",),
            groups=(),
            state=Tag("active", Tone.GOOD),
        ),
        PersonLine(
            id="p2",
            name="B. Okafor",
            email="b.okafor@imperial.example",
            roles=("User",),
            groups=("Paediatrics",),
            state=Tag("closed", Tone.WAIT),
        ),
    ),
)
PERSON: Final = PersonView(
    id="p2",
    title="B. Okafor",
    state=Tag("active", Tone.GOOD),
    facts=(Fact("Email address", "b.okafor@imperial.example"), Fact("Groups", "Paediatrics")),
    roles=Form(
        action="/people/p2/roles",
        submit="Set roles",
        fields=(
            Field(
                name="roles",
                label="Roles",
                kind=Kind.SEVERAL,
                value="user",
                options=(
                    Option(value="user", text="User", hint="Reads the catalogue, asks for data."),
                    Option(value="owner", text="Owner"),
                ),
            ),
        ),
    ),
    actions=(Link("Send a reset link", "/people/p2/reset"), Link("Close", "/people/p2/close")),
    cli="consilium user show p2",
)
ROLES: Final = RolesView(
    cli="consilium role list",
    permissions=("Decide on projects", "See the log", "Manage people"),
    roles=(
        RoleLine(name="User", allows=(False, False, False), custom=False),
        RoleLine(name="Compliance Officer", allows=(True, True, False), custom=False),
        RoleLine(name="Owner", allows=(True, True, True), custom=False),
    ),
    actions=(Link("New role", "/roles/new"),),
)
GROUPS: Final = GroupsView(
    cli="consilium group list",
    groups=(GroupLine(id="g1", name="Paediatrics", members=("B. Okafor", "A. Rossi")),),
    actions=(Link("New group", "/groups/new"),),
)
SITE: Final = SiteLine(
    id="s1",
    name="Hospital C",
    state=Tag("asks", Tone.WAIT),
    fingerprint=WORDS,
    since=NOW,
    reason="We would like to train together.",
    actions=(Link("Accept", "/sites/s1/accept"), Link("Refuse", "/sites/s1/refuse")),
)
SITES: Final = SitesView(
    cli="consilium site list",
    own_name="Hospital A",
    own_fingerprint=WORDS,
    asking=(SITE,),
    sites=(
        replace(
            SITE,
            id="s2",
            name="Coordinator",
            state=Tag("associated", Tone.GOOD),
            actions=(Link("Disconnect", "/sites/s2/disconnect"),),
        ),
    ),
    actions=(Link("Ask to be associated", "/sites/new"),),
)
HEALTH: Final = HealthView(
    cli="consilium office doctor",
    looked=NOW,
    lines=(
        HealthLine("Clock", Tag("well", Tone.GOOD), "0.2 s from the coordinator's"),
        HealthLine(
            "Certificate",
            Tag("soon", Tone.WAIT),
            "ends in 12 days",
            "Renew it: consilium federation renew",
        ),
    ),
)
SETTINGS: Final = SettingsView(
    cli="consilium office show",
    facts=(Fact("Name", "Hospital A"), Fact("Rules", "standard")),
    form=None,
    actions=(),
)

EXAMPLES: Final[dict[str, object]] = {
    "sign-in": SIGN_IN,
    "sign-in-wrong": WRONG,
    "revoke": REVOKE,
    "refuse": REFUSE,
    "first-run": TASKS,
    "error": ERROR,
    "inbox": INBOX,
    "inbox-empty": replace(INBOX, needs_you=(), running=(), decided=(), asks=()),
    "review": REVIEW,
    "review-bare": replace(
        REVIEW,
        what_if=None,
        people=(),
        difference="",
        conditions=(),
        signatures=(),
        actions=(),
        submitted=None,
        notice=Notice(Tone.INFORM, "You approved it."),
    ),
    "datasets": DATASETS,
    "datasets-empty": replace(DATASETS, datasets=()),
    "dataset": DATASET,
    "dataset-new": replace(
        DATASET,
        budget=replace(
            BUDGET,
            used=0.0,
            reserved=0.0,
            free=8.0,
            by_project=(),
            by_month=(),
            by_patient=(Band(0.0, 0.0, 12_412),),
            opted_out=1,
            meaning=words.meaning(0.0, 1e-6, "patient"),
        ),
        grants=(),
    ),
    "dataset-other": replace(DATASET, budget=None, actions=()),
    "log": LOG,
    "log-empty": replace(LOG, entries=(), total=0, checked=None, older=None),
    "catalogue": CATALOGUE,
    "catalogue-empty": replace(CATALOGUE, cards=(), tags=(), sites=1),
    "projects": PROJECTS,
    "projects-empty": replace(PROJECTS, projects=()),
    "builder": BUILDER,
    "builder-empty": replace(
        BUILDER, prices=(), problem=Notice(Tone.STOP, "It cannot be priced.", "delta is missing")
    ),
    "live": LIVE,
    "live-begin": replace(LIVE, spots=(), references=(), round=0, epsilon=0.0),
    "runs": RUNS,
    "runs-empty": replace(RUNS, runs=()),
    "models": MODELS,
    "models-empty": replace(MODELS, models=()),
    "model": MODEL,
    "model-bare": replace(MODEL, statement=None, meaning="", quality=(), downloads=(), verify=""),
    "people": PEOPLE,
    "people-empty": replace(PEOPLE, people=()),
    "person": PERSON,
    "roles": ROLES,
    "groups": GROUPS,
    "groups-empty": replace(GROUPS, groups=()),
    "sites": SITES,
    "sites-empty": replace(SITES, asking=(), sites=()),
    "health": HEALTH,
    "settings": SETTINGS,
}
