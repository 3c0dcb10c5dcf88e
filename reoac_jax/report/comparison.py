"""Picture of evaluations: accuracy against what it cost."""

from collections.abc import Sequence

from reoac_jax.report.evaluations import EvaluationResult
from reoac_jax.report.picture import Picture, Table, new_figure
from reoac_jax.report.theme import CATEGORIES

# Colour and markers, by `EvaluationResult.kind`; the caption names them.
_KINDS = {
    "actor": (CATEGORIES[1], "*PXdH"),
    "fixed": (CATEGORIES[4], "^v<>"),
    "sampler": (CATEGORIES[0], "osDphd8"),
}
_COLUMNS = (
    "label", "policy", "task", "accuracy", "low_95", "high_95", "correct", "samples", "cost",
    "forward_passes", "steps", "max_steps", "checkpoint", "file",
)  # fmt: skip


def accuracy_against_cost(evaluations: Sequence[EvaluationResult]) -> Picture:
    name, title = "accuracy_against_cost", "Accuracy against cost and forward passes"
    if not evaluations:
        why = (
            "No evaluation was found. Make some with python -m reoac_jax.evaluate, the baseline "
            "samplers with --policy confidence and so on, and name their files with --eval."
        )
        return Picture.absent(name, title, why, _COLUMNS)
    figure, (by_cost, by_passes) = new_figure(1, 2, width=4.4, height=3.4)
    used = dict.fromkeys(_KINDS, 0)
    for result in evaluations:
        colour, markers = _KINDS[result.kind]
        marker = markers[used[result.kind] % len(markers)]
        used[result.kind] += 1
        # Rounding may put an accuracy of 0 or 1 a hair outside its interval.
        below = max(result.accuracy - result.low, 0)
        above = max(result.high - result.accuracy, 0)
        for axes, x in ((by_cost, result.cost), (by_passes, result.forward_passes)):
            axes.errorbar(
                x, result.accuracy, [[below], [above]], color=colour, marker=marker,
                markersize=10 if marker == "*" else 6.5, linestyle="", linewidth=1, capsize=2.5,
                label=result.label, alpha=0.9,
            )  # fmt: skip
    by_cost.set_xlabel("mean operator cost of a problem")
    by_passes.set_xlabel("mean forward passes of a problem")
    by_cost.set_ylabel("accuracy, with its 95 % interval")
    for axes in (by_cost, by_passes):
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.margins(x=0.12)
    figure.legend(*by_cost.get_legend_handles_labels(), loc="outside right upper")
    tasks = {result.task for result in evaluations}
    warning = "" if len(tasks) == 1 else " They are of different tasks: compare within one only."
    caption = (
        "Every evaluation, on problems of the test split. Blue: usual samplers (a step of theirs "
        "costs what one of the cheapest operator does); yellow: untrained, random or fixed "
        f"operators; orange: trained actors.{warning}"
    )
    rows = [
        (r.label, r.policy, r.task, r.accuracy, r.low, r.high, r.correct, r.samples, r.cost,
         r.forward_passes, r.steps, r.max_steps, r.checkpoint, r.file)
        for r in evaluations
    ]  # fmt: skip
    return Picture(name, title, caption, figure, Table(_COLUMNS, rows))
