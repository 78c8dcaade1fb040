"""The effects of depth and shortcut options, as sentences computed from the numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from resnetlab.experiments.summary import Summary
from resnetlab.networks.architecture import Architecture

NOTICEABLE = 0.5  # points of training error; smaller differences count as none


@dataclass(frozen=True)
class DepthEffect:
    """The change in error, in points, from the shallowest to the deepest network (plain or residual), per seed."""

    shallow: Summary
    deep: Summary
    kind: str

    @property
    def train(self) -> tuple[float, ...]:
        """Change in training error in points; positive if depth hurt."""
        return self._gained("train")

    @property
    def test(self) -> tuple[float, ...]:
        """Change in test error in points."""
        return self._gained("test")

    def sentence(self) -> str:
        """A sentence with the direction and size of the change and both errors."""
        moved = mean(self.train)
        spread = stdev(self.train) if len(self.train) > 1 else 0.0
        least = max(NOTICEABLE, spread)
        way = "hurt" if moved > least else "helped" if moved < -least else "did not hurt"
        deep, shallow = self.deep.architecture.title, self.shallow.architecture.title
        ends = [mean(values) for values in (self._of("train", self.deep), self._of("train", self.shallow))]
        over = f", ± {spread:.2f} over {len(self.train)} seeds" if len(self.train) > 1 else ""
        return (
            f"depth {way} the {self.kind}: {deep} ends at {ends[0]:.2f} % training error, {shallow} at "
            f"{ends[1]:.2f} % ({moved:+.2f} points{over}; test {mean(self.test):+.2f})"
        )

    def _gained(self, split: str) -> tuple[float, ...]:
        pairs = zip(self._of(split, self.shallow), self._of(split, self.deep), strict=True)
        return tuple(b - a for a, b in pairs)

    def _of(self, split: str, summary: Summary) -> list[float]:
        """The values of the seeds that both networks have."""
        both = set(self.shallow.seeds) & set(self.deep.seeds)
        values = zip(summary.seeds, getattr(summary, split), strict=True)
        return [value for seed, value in values if seed in both]


def depth_effects(summaries: list[Summary], residual: bool) -> list[DepthEffect]:
    """The effect of depth on plain or residual networks, for each block and option with at least two depths."""
    groups: dict[tuple[str, str], list[Summary]] = {}
    for summary in summaries:
        if summary.residual == residual:
            key = summary.architecture.block, summary.architecture.shortcut
            groups.setdefault(key, []).append(summary)
    found = {
        key: group for key, group in groups.items() if group[0].architecture.depth < group[-1].architecture.depth
    }
    effects = []
    for (block, shortcut), group in found.items():
        kind = "residual networks" if residual else "plain networks"
        if residual and any(b != block for b, _ in groups):
            kind += f" of {block} blocks"
        if residual and len({option for b, option in groups if b == block}) > 1:
            kind += f" with option {shortcut}"
        if set(group[0].seeds) & set(group[-1].seeds):
            effects.append(DepthEffect(group[0], group[-1], kind))
    return effects


def shows_degradation(plain: DepthEffect, residual: DepthEffect) -> list[bool]:
    """Per seed: whether depth noticeably raised the plain training error but not the residual one."""
    return [p > NOTICEABLE and r <= NOTICEABLE for p, r in zip(plain.train, residual.train, strict=False)]


def verdict(summaries: list[Summary]) -> list[str]:
    """What these runs show about shortcut options, if there are several; otherwise about depth."""
    options = option_sentences({s.architecture: s.test for s in summaries})
    return ["Test errors:", *options] if options else [depth_verdict(summaries)]


def depth_verdict(summaries: list[Summary]) -> str:
    """One sentence on the effect of depth."""
    plain, residual = (depth_effects(summaries, residual) for residual in (False, True))
    if not plain and not residual:
        return "One depth alone shows nothing about depth."
    text = "; ".join(effect.sentence() for effect in (*plain, *residual))
    text = text[0].upper() + text[1:]
    alike = [effect for effect in residual if plain and _block(effect) == _block(plain[0])]
    return text + (_degradation(shows_degradation(plain[0], alike[0])) if alike else ".")


def option_sentences(errors: Mapping[Architecture, tuple[float, ...]]) -> list[str]:
    """For each depth with several shortcut options: their mean errors (percent) and which is lowest."""
    found = []
    kinds = dict.fromkeys((row.name, row.label) for row in errors)
    for name, label in kinds:
        options = sorted((row.shortcut, values) for row, values in errors.items() if row.name == name)
        if len(options) > 1:
            means = {option: mean(values) for option, values in options}
            listed = ", ".join(f"{option} {error:.2f} %" for option, error in means.items())
            best = min(means, key=lambda option: means[option])
            apart = max(means.values()) - min(means.values())
            spread = max((stdev(values) for _, values in options if len(values) > 1), default=None)
            within = spread is not None and apart <= spread
            judged = f", which is within the spread over seeds, ± {spread:.2f}" if within else ""
            found.append(
                f"{label} by option: {listed}; {best} is lowest, {apart:.2f} points below the highest{judged}."
            )
    return found


def _degradation(shown: list[bool]) -> str:
    """The end of a sentence: in how many seeds residual networks cure the degradation."""
    count, seeds = sum(shown), len(shown)
    if not count:
        return ": these runs do not show degradation cured by shortcuts" + (
            f", in any of {seeds} seeds." * (seeds > 1) or "."
        )
    over = "" if seeds == 1 else f", in all {seeds} seeds" if count == seeds else f", in {count} of {seeds} seeds"
    return f": the degradation of plain networks, and its cure{over}."


def _block(effect: DepthEffect) -> str:
    return effect.deep.architecture.block
