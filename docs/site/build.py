"""Build the documents as a site: `python docs/site/build.py --out build/site`.

The Markdown files are those of the repository, in a copy with the same layout, so that links between them, to results
and to the source work as they do there. The reference is made from docstrings. A broken link or reference fails.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import resnetlab

ROOT = Path(__file__).parents[2]
KINDS = {".md", ".png", ".py", ".toml", ".cff", ".json"}
FOLDERS = ("docs", "results", "src", "tests", "benchmarks")
REFERENCE = {
    "Networks": ("resnetlab.networks.architecture", "resnetlab.networks.resnet", "resnetlab.networks.measure"),
    "Models": ("resnetlab.models.modelfile", "resnetlab.models.trust"),
    "Data": ("resnetlab.data.dataset", "resnetlab.data.preprocessing"),
    "Training": ("resnetlab.training.recipe", "resnetlab.training.loop", "resnetlab.training.schedule"),
    "Tasks": ("resnetlab.tasks.task",),
    "Runs": ("resnetlab.runs.spec", "resnetlab.runs.run", "resnetlab.runs.finished"),
    "Evaluation": ("resnetlab.evaluation.views", "resnetlab.evaluation.protocol", "resnetlab.evaluation.answers"),
    "Inference": ("resnetlab.inference.engines", "resnetlab.inference.predict", "resnetlab.inference.explain"),
    "Records": ("resnetlab.report.record", "resnetlab.report.webpage"),
    "Experiments": ("resnetlab.experiments.experiment", "resnetlab.experiments.study"),
}
ORDER = {
    "Use it": ("start", "photographs", "data", "training", "gpus", "models", "serving", "detection", "faults"),
    "The paper": ("paper", "networks", "protocols", "choices", "why"),
    "Build on it": ("python", "how-it-is-built", "reference"),
}


def main() -> None:
    """Copy what is tracked, add the pages that are made, and run Sphinx, for which every warning is an error."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="the folder of the site")
    out = options.parse_args().out.resolve()
    with tempfile.TemporaryDirectory() as text:
        source = Path(text) / "source"
        for name in _tracked():
            if Path(name).suffix in KINDS and (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, source / name)
        shutil.copyfile(ROOT / "docs" / "site" / "conf.py", source / "conf.py")
        (source / "docs" / "reference.md").write_text(_reference())
        (source / "README.md").write_text((source / "README.md").read_text() + _contents())
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", f"{text}/cache"]
        status = subprocess.run([*command, str(source), str(out)], check=False).returncode
    if status:
        raise SystemExit(status)
    print(f"{out / 'README.html'}: open it in a browser")


def _tracked() -> list[str]:
    """The files of the repository, without what git ignores; outside of a clone, those of its folders."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return listed.stdout.splitlines()
    paths = [*ROOT.glob("*.*"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.*"))]
    return [str(path.relative_to(ROOT)) for path in paths]


def _contents() -> str:
    """The tree of pages, for the side bar."""
    parts = [_toctree(caption, [f"docs/{name}" for name in names]) for caption, names in ORDER.items()]
    return "".join([*parts, _toctree("Project", ["results/README", "CONTRIBUTING", "CHANGELOG"])])


def _toctree(caption: str, names: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""])


def _reference() -> str:
    """A section for each group of modules, made from their docstrings."""
    lines = ["# Reference", "", "What can be used from Python, and how?", ""]
    lines += ["## The public face", "", "From `import resnetlab`:", "", "```{eval-rst}"]
    for name in resnetlab.PLACES:
        known = getattr(resnetlab, name)
        kind = "class" if isinstance(known, type) else "function"
        lines += [f".. auto{kind}:: {known.__module__}.{known.__qualname__}", "   :no-index:"]
        lines += ["   :members:", ""] if kind == "class" else [""]
    lines += ["```", ""]
    for title, modules in REFERENCE.items():
        lines += [f"## {title}", ""]
        for module in modules:
            lines += [f"### `{module}`", "", "```{eval-rst}", f".. automodule:: {module}", "   :members:", "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
