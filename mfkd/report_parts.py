"""Parts that the pages of `mfkd.report` are composed of; a section without its facts is left out."""

from collections.abc import Mapping, Sequence

from common.report import (
    Curve,
    Fragment,
    block_widths,
    code,
    cost_scatter,
    coverage,
    definitions,
    interval_scatter,
    note,
    plot,
    row,
    section,
    table,
    training_curves,
)
from common.report.facts import RunFacts, run_facts
from common.report.text import count, decimal, duration, percent
from common.spaces.mobilenet_v2 import MobileNetV2Arch, MobileNetV2Space, parse_pairs
from mfkd.report_inputs import Result

_LISTED = 12
_WAYS = {
    "MFKD1": "Random networks are trained at low fidelity, and a Gaussian process predicts all others.",
    "MFKD2": "Every network after the first random ones was proposed by a Gaussian process of those before it: the "
    "largest sum of predicted mean and a part of its deviation.",
    "MF-KD": "Co-kriging predicts high fidelity from both; every proposal is trained at low fidelity first.",
}


def step_section(result: Result) -> Fragment:
    """One search step: path, fit, front, networks."""
    evaluations = result["evaluations"]
    figures = [_path(evaluations), *_fit(evaluations), *_fronts(result)]
    facts: dict[str, str | Fragment] = {
        "Trainings": f"{result['num_evaluations']} of {result['num_points']:,} networks, {duration(result['seconds'])}",
        "Loss": str(result["loss"]),
        "Compared on": str(result["description"]),
    }
    title = f"{result['algorithm']}, {result['fidelity']} fidelity"
    return section(title, note(_WAYS[result["algorithm"]]), row(*figures), definitions(facts), _networks(evaluations))


def _path(evaluations: Sequence[Result]) -> Fragment:
    """Accuracies in the order of the trainings, and the best so far."""
    curves: dict[str, list[Curve]] = {}
    for fidelity in ("low", "high"):
        steps = [number for number, one in enumerate(evaluations, 1) if one["fidelity"] == fidelity]
        if not steps:
            continue
        values = [one["accuracy"] for one in evaluations if one["fidelity"] == fidelity]
        best = [max(values[: place + 1]) for place in range(len(values))]
        curves |= {f"{fidelity} fidelity": [Curve(steps, values)], f"best at {fidelity}": [Curve(steps, best)]}
    ends = ", ".join(f"{name} {percent(found[0].values[-1])}" for name, found in curves.items())
    return plot(
        training_curves(curves, value_label="accuracy on validation images", step_label="training", is_fraction=True),
        alt=f"Search path over {len(evaluations)} trainings; at the end {ends}",
        caption="Search path: each trained network, in order, and the best so far.",
    )


def _fit(evaluations: Sequence[Result]) -> list[Fragment]:
    """Held-out predictions against measurements."""
    known = [one for one in evaluations if one["held_out"] is not None]
    if len(known) < 2:
        return []
    means, stds = ([one["held_out"][name] for one in known] for name in ("mean", "std"))
    measured = [one["accuracy"] for one in known]
    inside = coverage(means, stds, measured)
    text = (
        f"{percent(inside, 0)} of {len(known)} measured accuracies lie in the 95 % interval of their prediction. Each "
        "point is predicted from all the others of its fidelity; intervals are those of the expected accuracy, without "
        "the noise of one training."
    )
    return [plot(interval_scatter(means, stds, measured), alt=f"Surrogate's fit: {text}", caption=text)]


def _fronts(result: Result) -> list[Fragment]:
    """Accuracy against MACs, one figure a fidelity."""
    parts = []
    for fidelity in ("low", "high"):
        rows = [one for one in result["evaluations"] if one["fidelity"] == fidelity]
        if len(rows) < 2:
            continue
        chosen = [place for place, one in enumerate(rows) if one["index"] == result["winner"]["index"]]
        drawing = cost_scatter(
            [one["macs"] for one in rows],
            [one["accuracy"] for one in rows],
            chosen=chosen,
            cost_label="MACs of one image",
            score_label=f"accuracy, {fidelity} fidelity",
        )
        caption = "Pareto front: the line is the best accuracy at or below each cost."
        if not chosen:
            caption += " The winner was predicted, not trained here."
        parts.append(plot(drawing, alt=f"Accuracy of {len(rows)} networks against MACs. {caption}", caption=caption))
    return parts


def _networks(evaluations: Sequence[Result]) -> Fragment:
    ranked = sorted(evaluations, key=lambda one: (one["fidelity"] != "high", -one["accuracy"]))[:_LISTED]
    rows: list[list[str | Fragment]] = [
        [
            code(one["architecture"]),
            str(one["fidelity"]),
            percent(one["accuracy"], 2),
            _with_interval(one["held_out"]),
            count(one["macs"]),
            count(one["num_params"]),
            duration(one["seconds"]),
        ]
        for one in ranked
    ]
    columns = ["Network", "Fidelity", "Accuracy", "Held-out prediction", "MACs", "Parameters", "Time"]
    caption = f"The {len(rows)} most accurate of {len(evaluations)} trainings; all are in output.csv"
    return table(columns, rows, caption=caption, words=(0, 1))


def _with_interval(prediction: Mapping[str, float] | None) -> str:
    if prediction is None:
        return "-"
    return f"{percent(prediction['mean'], 1)} +- {100 * prediction['std']:.1f}"


def network_section(title: str, network: Result, space: MobileNetV2Space) -> Fragment:
    """Stages of a network beside the teacher's, with its figures."""
    arch = parse_pairs(network["architecture"])
    drawing = plot(
        block_widths(_stages(arch), _stages(space.teacher)),
        alt=f"Blocks of the network {network['architecture']}, from input to output, beside the teacher's.",
        caption="Channels of each block, from input (top) to output; the teacher behind it.",
    )
    facts: dict[str, str | Fragment] = {
        "Network": code(network["architecture"]),
        "Parameters": f"{network['num_params']:,}",
        "MACs of one image": f"{network['macs']:,}",
    }
    if network.get("index") is not None:
        facts["Index in the space"] = f"{network['index']:,} of {space.size():,}"
    if network.get("prediction"):
        facts["Predicted at low fidelity"] = _with_interval(network["prediction"])
    return section(title, row(drawing, definitions(facts)))


def _stages(arch: MobileNetV2Arch) -> list[list[int]]:
    return [[width] * blocks for width, blocks in zip(arch.channels, arch.repetitions, strict=True)]


def training_runs(models: Sequence[Result]) -> list[RunFacts]:
    """Trained networks as the shared sections take them."""
    return [
        run_facts(
            one.get("seed", 0),
            {
                "best": one["best_accuracy"],
                "final": one["accuracy"],
                "initial": one["initial_accuracy"],
            },
            one["curve"],
            one["seconds"],
        )
        for one in models
    ]


def model_table(results: Sequence[Result], caption: str) -> Fragment:
    """Networks that were trained to the end."""
    rows: list[list[str | Fragment]] = [
        [
            str(one["label"]),
            percent(one["accuracy"], 2),
            percent(one["initial_accuracy"], 2),
            count(one["macs"]),
            count(one["num_params"]),
            duration(one["seconds"]),
            code(one["architecture"]),
        ]
        for one in results
    ]
    columns = ["Training", "Last epoch", "Before", "MACs", "Parameters", "Time", "Network"]
    return table(columns, rows, caption=caption, words=(0, 6))


def spread(values: Sequence[float], digits: int = 2, scale: float = 1.0) -> str:
    """Mean and sample deviation; one value alone."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return decimal(scale * mean, digits)
    std = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f"{decimal(scale * mean, digits)} +- {decimal(scale * std, digits)}"
