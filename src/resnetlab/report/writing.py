"""Write a record to files: JSON, Markdown, pictures."""

from pathlib import Path

from resnetlab.files import replacing, write_json
from resnetlab.report.record import Record


def write_record(record: Record, folder: Path) -> list[Path]:
    """Write `folder`/<name>.json, .md and the pictures. Returns all paths."""
    path = folder / f"{record.name}.json"
    write_json(path, record.to_json())
    return [path, *write_page(record, folder)]


def write_page(record: Record, folder: Path) -> list[Path]:
    """Write `folder`/<name>.md and the pictures from a record. Returns their paths."""
    written = [folder / f"{record.name}.md"]
    with replacing(written[0]) as temporary:
        temporary.write_text(record.markdown())
    for number, figure in enumerate(record.figures):
        from resnetlab.report.figures import draw  # matplotlib takes a while to import

        path = folder / record.picture(number)
        draw(figure, path)
        written += [path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")]
    return written
