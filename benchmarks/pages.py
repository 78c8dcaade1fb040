"""Make the pages and pictures in results/, and the numbers in docs/, again from the records.

`python -m benchmarks.pages`. In a document, the lines between `<!-- RECORD WHAT -->` and `<!-- end -->` come from a
record in results/, e.g. `<!-- why-digits/lesions.json claims -->`: WHAT is `sentences`, `claims`, or a table's title.
"""

import re
from pathlib import Path

from resnetlab.experiments.earlier import read_record
from resnetlab.report.record import Record
from resnetlab.report.writing import write_page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
FILLED = re.compile(r"<!-- (\S+\.json) (.+?) -->\n.*?<!-- end -->", re.DOTALL)
CLAIMS = "Claims and measurements"


def main() -> None:
    """Every record of an experiment or a study; those of benchmarks have pages of their own."""
    for path in sorted(RESULTS.glob("*/*.json")):
        for written in write_page(read_record(path), path.parent):
            print(written.relative_to(ROOT))
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text()
        if (new := filled(text)) != text:
            path.write_text(new)
            print(path.relative_to(ROOT))


def filled(text: str) -> str:
    """A document with what comes from records made again."""

    def made(match: re.Match[str]) -> str:
        record = read_record(RESULTS / match[1])
        return f"<!-- {match[1]} {match[2]} -->\n{_part(record, match[2]).strip()}\n<!-- end -->"

    return FILLED.sub(made, text)


def _part(record: Record, what: str) -> str:
    if what == "sentences":
        return " ".join(filter(None, record.sentences))
    if what == "claims":
        tables = [table for table in record.tables if table.title == CLAIMS]
        rows = [row for table in tables for row in table.rows]
        return "\n".join(f"- **{verdict}**: {claim} ({by}). {told}." for claim, by, told, verdict in rows)
    (table,) = (table for table in record.tables if table.title == what)
    return table.markdown().split("\n\n", 1)[1]


if __name__ == "__main__":
    main()
