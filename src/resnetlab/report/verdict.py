"""What depth did to plain and to residual networks, in one sentence computed from the numbers."""

from dataclasses import dataclass
from statistics import mean

from resnetlab.networks.resnet import Architecture
from resnetlab.report.records import Summary

NOTICEABLE = 0.5  # points of training error; smaller differences are called none


@dataclass(frozen=True)
class DepthEffect:
    """From the shallowest to the deepest network of a kind: points of error gained, by seed."""

    shallow: Summary
    deep: Summary

    @property
    def train(self) -> tuple[float, ...]:
        """Points of training error; positive where depth hurt."""
        return tuple(b - a for a, b in zip(self.shallow.train_errors, self.deep.train_errors, strict=False))

    @property
    def test(self) -> tuple[float, ...]:
        """Points of test error."""
        return tuple(b - a for a, b in zip(self.shallow.test_errors, self.deep.test_errors, strict=False))

    def sentence(self) -> str:
        """Which way, by how much, from what to what."""
        kind = "residual" if self.deep.residual else "plain"
        moved = mean(self.train)
        way = "hurt" if moved > NOTICEABLE else "helped" if moved < -NOTICEABLE else "did not hurt"
        deep, shallow = self.deep.row.title, self.shallow.row.title
        ends = [mean(summary.train_errors) for summary in (self.deep, self.shallow)]
        return (
            f"depth {way} the {kind} networks: {deep} ends at {ends[0]:.2f} % training error, {shallow} at "
            f"{ends[1]:.2f} % ({moved:+.2f} points; test {mean(self.test):+.2f})"
        )


def depth_effect(summaries: list[Summary], residual: bool) -> DepthEffect | None:
    """The effect of depth on plain or residual networks, where there are two depths of one block and option."""
    kind = [summary for summary in summaries if summary.residual == residual]
    alike = [s for s in kind if (s.row.block, s.row.shortcut) == (kind[-1].row.block, kind[-1].row.shortcut)]
    return DepthEffect(alike[0], alike[-1]) if len(alike) > 1 else None


def shows_degradation(plain: DepthEffect, residual: DepthEffect) -> list[bool]:
    """By seed: depth raised the plain training error noticeably, and the residual one not."""
    return [p > NOTICEABLE and r <= NOTICEABLE for p, r in zip(plain.train, residual.train, strict=False)]


def verdict(summaries: list[Summary]) -> str:
    """What these runs show, whichever way it went: of shortcut options where there are several, else of depth."""
    options = option_sentences({summary.row: mean(summary.test_errors) for summary in summaries})
    return "Test errors: " + " ".join(options) if options else depth_verdict(summaries)


def depth_verdict(summaries: list[Summary]) -> str:
    """One sentence on what depth did."""
    plain, residual = (depth_effect(summaries, residual) for residual in (False, True))
    sentences = [effect.sentence() for effect in (plain, residual) if effect is not None]
    if not sentences:
        return "One depth alone shows nothing about depth."
    text = "; ".join(sentences)
    text = text[0].upper() + text[1:]
    if plain is None or residual is None:
        return text + "."
    shown = shows_degradation(plain, residual)
    if len(shown) > 1:
        return f"{text}: the degradation that residual learning cures, in {sum(shown)} of {len(shown)} seeds."
    return text + (
        ": the degradation of plain networks, and its cure."
        if shown[0]
        else ": these runs do not show degradation cured by shortcuts."
    )


def option_sentences(errors: dict[Architecture, float]) -> list[str]:
    """For each depth with several shortcut options: their errors (percent) and which is lowest."""
    found = []
    kinds = dict.fromkeys((row.name, row.label) for row in errors)
    for name, label in kinds:
        options = sorted((row.shortcut, error) for row, error in errors.items() if row.name == name)
        if len(options) > 1:
            listed = ", ".join(f"{option} {error:.2f} %" for option, error in options)
            best = min(options, key=lambda pair: pair[1])[0]
            spread = max(error for _, error in options) - min(error for _, error in options)
            found.append(f"{label} by option: {listed}; {best} is lowest, {spread:.2f} points below the highest.")
    return found
