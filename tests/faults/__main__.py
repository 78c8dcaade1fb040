"""`python -m tests.faults --cases 20000`: damaged files through every reader and command; `--out` continues."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_STACKSIZE": "1M"}
# before PyTorch is imported: its threads do not survive a fork

from tests.faults import harness, record


def main() -> int:
    """Use the files of the corpus and random ones, print what came of them, and return 1 if any is bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--case", type=int, help="one case only, by its number; its files stay in OUT/case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, default=None, help="where results are kept; a temporary folder by default"
    )
    parser.add_argument("--light", action="store_true", help="without what takes seconds, e.g. training")
    parser.add_argument("--record", type=Path, help="write the counts to RECORD.json and .md")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        out = (said.out or Path(scratch) / "out").absolute()
        base = harness.made_base(out)
        harness.preload()
        if said.case is not None:
            print(harness.one(said.case, said.seed, base, out, said.light))
            print((out / "output").read_text())
            return 0
        found = list(harness.corpus(base, Path(scratch), said.light))
        print(f"{sum(each.kind in harness.BAD for each in found)} bad of {len(found)} uses of the corpus", flush=True)
        numbers = range(1, said.cases + 1)
        drawn = harness.run(numbers, said.seed, said.light, out, said.processes, Path(scratch))
    if bad := [each for each in found if each.kind in harness.BAD]:
        print("\n".join(harness.summary(bad)))
    print("\n".join(harness.summary(drawn)))
    if said.record:
        record.write_cases(said.record, drawn, {"cases": said.cases, "seed": said.seed})
    return int(any(result.kind in harness.BAD for result in (*found, *drawn)))


if __name__ == "__main__":
    sys.exit(main())
