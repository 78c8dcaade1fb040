"""Make the pages and pictures in results/ again from their records: `python -m benchmarks.pages`."""

from pathlib import Path

from resnetlab.experiments.earlier import read_record
from resnetlab.report.writing import write_page

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """Every record of an experiment or a study; those of benchmarks have pages of their own."""
    for path in sorted(RESULTS.glob("*/*.json")):
        for written in write_page(read_record(path), path.parent):
            print(written.relative_to(RESULTS))


if __name__ == "__main__":
    main()
