# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/contracts.json: PYTHONPATH=src:. python tests/governance/write_vectors.py

The canonical forms are those of RFC 8785, section 3.2.2 to 3.2.4 and appendix B; the rest is
written once and must not move.
"""

import json
from pathlib import Path

from consilium.governance.contract import contract_bytes, contract_digest, fingerprint, site_digest

RFC = {
    "section 3.2.2, as sorted in 3.2.4": (
        '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],'
        '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/",'
        '"literals":[null,true,false]}',
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a"
        "5b3333333333333333332e333333333333332c31652b33302c342e352c302e3030322c31652d3237"
        "5d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c222f227d",
    ),
    "section 3.2.3, sorting by UTF-16": (
        '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With '
        'Dagesh","1":"One","\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control",'
        '"\\u00f6":"Latin Small Letter O With Diaeresis"}',
        '{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O With '
        'Diaeresis","€":"Euro Sign","😀":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet '
        'With Dagesh"}'.encode().hex(),
    ),
    "appendix B, minus zero": ("[-0.0]", b"[0]".hex()),
    "appendix B, least positive": ("[5e-324]", b"[5e-324]".hex()),
    "appendix B, 2**68": (
        "[295147905179352830000]".replace("]", ".0]"),
        b"[295147905179352830000]".hex(),
    ),
    "appendix B, rounds up to 1e23": ("[9.999999999999997e22]", b"[9.999999999999997e+22]".hex()),
    "appendix B, 1e23": ("[1e23]", b"[1e+23]".hex()),
    "appendix B, 1e21": ("[1e21]", b"[1e+21]".hex()),
    "appendix B, 1e-6": ("[0.000001]", b"[0.000001]".hex()),
}


def main() -> None:
    from tests.governance.test_contract import make_contract  # noqa: PLC0415 - reads this file

    plain = make_contract()
    text = contract_bytes(plain).decode()
    turned = json.dumps(dict(reversed(json.loads(text).items())))
    datasets = json.dumps(json.loads(text)["datasets"], separators=(",", ":"))
    vectors = {
        "rfc8785": [
            {"name": name, "input": given, "output_hex": out} for name, (given, out) in RFC.items()
        ],
        "contracts": [
            {
                "name": "three sites",
                "contract": text,
                "digest": contract_digest(plain).hex(),
                "tum": site_digest(plain, "tum").hex(),
                "words": fingerprint(plain),
            }
        ],
        "bad": [
            {"name": "a blank", "contract": text.replace(":", ": ", 1)},
            {
                "name": "another order",
                "contract": turned,
            },
            {"name": "an unknown key", "contract": text[:-1] + ',"z":1}'},
            {"name": "a key twice", "contract": text[:-1] + ',"version":1}'},
            {"name": "another version", "contract": text.replace('"version":1', '"version":2')},
            {"name": "cut short", "contract": text[:-5]},
            {
                "name": "no dataset",
                "contract": text.replace(datasets, "{}"),
            },
            {"name": "no runs", "contract": text.replace('"max_runs":1', '"max_runs":0')},
            {"name": "no zone", "contract": text.replace("12:00:00Z", "12:00:00")},
        ],
    }
    out = Path(__file__).parents[1] / "vectors/contracts.json"
    out.write_text(json.dumps(vectors, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
