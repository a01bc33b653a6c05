"""Draws the book's pictures: python docs/pictures.py [FOLDER], by default docs/ itself.

Numbers in them are computed by the framework; images are generated scenes, and for the README photographs that
scikit-image brings. All of it reads in black and white.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import facts

from others.data import cameras, noises
from others.data.scenes import CELL, SIZE, Scene
from others.evaluation import metrics
from others.evaluation.figures import figure_maker
from others.model import Model
from others.nn import MSE, Add, Linear, ReLU, Tape, UpsamplingConv2d
from others.nn.geometry import Geometry, phases
from others.nn.kernels import correlate, scatter, weight_gradient

FOLDER = Path(__file__).resolve().parent
GREY = "0.85"


def sheet(width, height, columns=1):
    """A figure and its axes side by side, without frames, one unit of length the same in both directions."""
    figure = figure_maker()(width, height)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.set_axis_off()
        axis.set_aspect("equal")
    return figure, axes


def cell(axis, x, y, text, grey=False, width=1):
    """A box of height 1, its lower left corner at (x, y)."""
    right, colour = x + width, GREY if grey else "white"
    axis.fill([x, right, right, x], [y, y, y + 1, y + 1], facecolor=colour, edgecolor="black")
    axis.text(x + width / 2, y + 0.5, text, ha="center", va="center")


def grid(axis, x, y, matrix, title, grey=()):
    """A matrix of integers as squares, its upper left corner at (x, y), those in `grey` shaded."""
    for row, values in enumerate(matrix.round().int().tolist()):
        for column, value in enumerate(values):
            cell(axis, x + column, y - row - 1, f"{value}", (row, column) in grey)
    axis.text(x + matrix.shape[1] / 2, y + 0.2, title, ha="center", va="bottom")


def arrow(axis, start, end, **options):
    style = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0, **options}
    axis.annotate("", end, start, arrowprops=style)


# ------------------------------------------------------------------------------------------------------- chapter 1


def three_maps(path):
    """The example of the chapter, what makes one number of each result shaded."""
    x, g = torch.tensor([[1.0, 2, 0], [0, 3, 1], [2, 0, 1]]), torch.tensor([[1.0, 0], [2, -1]])
    w, geometry = torch.tensor([[1.0, 2], [0, -1]]), Geometry((2, 2))
    images, weight = (x.view(1, 3, 3, 1), g.view(1, 2, 2, 1)), w.view(1, 1, 2, 2)
    y = correlate(images[0], weight, (2, 2), geometry).view(2, 2)
    dx = scatter(images[1], weight, (3, 3), geometry).view(3, 3)
    dw = weight_gradient(*images, geometry).view(2, 2)
    everything = {(row, column) for row in range(2) for column in range(2)}
    window = {(row + 1, column) for row, column in everything}
    parts = (
        ("correlate(x, w)", (x, "x", window), (w, "w", everything), (y, "y", {(1, 0)})),
        ("scatter(g, w)", (g, "g", {(1, 0)}), (w, "w", everything), (dx, "result", window)),
        ("weight_gradient(x, g)", (x, "x", window), (g, "g", everything), (dw, "result", {(1, 0)})),
    )
    captions = ("1·0 + 2·3 + 0·2 − 1·0 = 6", "the stamp 2·w is added here", "1·0 + 0·3 + 2·2 − 1·0 = 4")
    figure, axes = sheet(10.5, 2.5, columns=3)
    for axis, caption, (title, *matrices) in zip(axes, captions, parts):
        at = 0
        for (matrix, name, grey), sign in zip(matrices, ("", "=", "")):
            grid(axis, at, matrix.shape[0] / 2, matrix, name, grey)
            at += matrix.shape[1] + 0.9
            axis.text(at - 0.45, 0, sign, ha="center", va="center", fontsize=14)
        axis.set_title(title, fontsize=12, family="monospace")
        axis.text((at - 0.9) / 2, -1.9, caption, ha="center", va="top")
        axis.set_ylim(-2.3, 2.2)
    figure.savefig(path, dpi=110)


# -------------------------------------------------------------------------------------------------- chapters 3 and 5


def taps_picture(axis, sources, arrivals, title, caption):
    """Boxes named `sources` above eight outputs x, and an arrow for each (from, to, name of the tap)."""
    width = 8 / len(sources)
    for number, name in enumerate(sources):
        cell(axis, number * width, 3, name, width=width)
    for number in range(8):
        cell(axis, number, 0, f"x[{number}]", grey=number % 2)
    for source, target, tap in arrivals:
        start, end = ((source + 0.5) * width, 3), (target + 0.5, 1)
        arrow(axis, start, end, linestyle="dashed" if target % 2 else "solid")
        middle = [a + 0.6 * (b - a) for a, b in zip(start, end)]
        axis.text(*middle, tap, ha="center", va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axis.text(4, 4.2, title, ha="center", va="bottom", fontsize=12)
    axis.text(4, -0.3, caption, ha="center", va="top")
    axis.set_ylim(-0.9, 4.8 if title else 4.1)


def phases_picture(path):
    """Kernel 3, stride 2, padding 1: which taps arrive at even and odd positions."""
    arrivals = [
        (step - phase.padding + place, phase.first + 2 * step, f"w[{tap}]")
        for phase in phases(8, 3, 2, 1, 1)
        for step in range(phase.count)
        for place, tap in enumerate([2, 1, 0][phase.taps])
    ]
    figure, (axis,) = sheet(8.0, 4.1)
    inside = [arrival for arrival in arrivals if arrival[0] < 4]
    caption = "even positions: tap 1 (solid)      odd positions, grey: taps 2 and 0 (dashed)"
    taps_picture(axis, [f"y[{number}]" for number in range(4)], inside, "", caption)
    figure.savefig(path, dpi=110)


def upsampling_picture(path):
    """Kernel (a, b, c) on pixels repeated twice, for one even and one odd output: three taps, and folded two."""
    layer = UpsamplingConv2d(1, 1, (1, 3), (1, 2), bias=False)
    layer.weight = torch.tensor([1.0, 10, 100]).view(1, 1, 1, 3)
    names = {1: "a", 11: "a + b", 110: "b + c", 100: "c"}
    folded = [names[round(value)] for value in layer.fold(layer.weight).flatten().tolist()]
    targets = (2, 5)
    plain = [(target + tap - 1, target, "abc"[tap]) for target in targets for tap in range(3)]
    taps = [(target, tap) for target in targets for tap in range(4) if (target + 1 - tap) % 2 == 0]
    figure, (left, right) = sheet(10.5, 3.4, columns=2)
    taps_picture(left, [f"y[{number // 2}]" for number in range(8)], plain, "enlarged, then convolved", "three taps")
    small = [f"y[{number}]" for number in range(4)]
    arrivals = [((target + 1 - tap) // 2, target, folded[tap]) for target, tap in taps]
    taps_picture(right, small, arrivals, "folded", "two taps, on the small image")
    figure.savefig(path, dpi=110)


# ------------------------------------------------------------------------------------------------------- chapter 6


def tape_picture(path):
    """The graph of the example with its values and gradients, numbered as the lines of its tape."""
    linear, relu, add, criterion = Linear(1, 1, bias=False), ReLU(), Add(), MSE()
    linear.weight = torch.tensor([[3.0]])
    x, zero = torch.tensor([[2.0]]), torch.tensor([[0.0]])
    with Tape() as tape:
        a = linear(x)
        b = relu(a)
        s = add(a, b)
        loss = criterion(s, zero)
    tensors = {"x": (x, 0, 0), "a": (a, 3.4, 0), "b": (b, 6, 1.7), "s": (s, 8.6, 0), "loss": (loss, 12, 0)}
    gradients = tape.backward(loss, inputs=[tensor for tensor, *_ in tensors.values()])
    figure, (axis,) = sheet(10.0, 2.5)
    box = {"boxstyle": "round", "facecolor": GREY, "edgecolor": "black"}
    for (name, (tensor, *place)), gradient in zip(tensors.items(), gradients):
        text = f"{name} = {tensor.item():g}\ngradient {gradient.item():g}"
        axis.text(*place, text, ha="center", va="center", bbox=box)
    arrow_between(axis, tensors["x"], tensors["a"], "1. linear, w = 3")
    arrow_between(axis, tensors["a"], tensors["b"], "2. relu", ha="right")
    arrow_between(axis, tensors["a"], tensors["s"], "3. add")
    arrow_between(axis, tensors["b"], tensors["s"], "3. add", ha="left")
    arrow_between(axis, tensors["s"], tensors["loss"], "4. MSE")
    axis.set_xlim(-1.2, 13.2)
    axis.set_ylim(-0.7, 2.4)
    figure.savefig(path, dpi=110)


def arrow_between(axis, start, end, text, ha="center"):
    """From one tensor's box to another's: (tensor, x, y) each; the text above it, or left or right of its middle."""
    (_, *start), (_, *end) = start, end
    arrow(axis, start, end, shrinkA=38, shrinkB=38)
    middle = [(a + b) / 2 for a, b in zip(start, end)]
    axis.annotate(text, middle, (0, 4), textcoords="offset points", ha=ha, va="bottom")


# ------------------------------------------------------------------------------------------------------- chapter 7


def noise_picture(path):
    """A scene, some of its cells with the pixels that were drawn, two noisy versions, clean, standard deviation."""
    scene = Scene(seed=0, index=12)
    steps = (torch.arange(SIZE * CELL) + 0.5) / (SIZE * CELL)
    points = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), 2).view(-1, 2)
    fine = scene.colour_at(points).view(3, SIZE * CELL, SIZE * CELL)
    cells = fine.view(3, SIZE, CELL, SIZE, CELL)
    spread = cells.var((2, 4), correction=0).mean(0).sqrt()
    noisy = scene.noisy(), scene.noisy()
    figure = figure_maker()(10.0, 6.9)
    whole, part, *others = figure.subplots(2, 3).flat
    images = {"clean: mean of each cell": cells.mean((2, 4)), "noisy": noisy[0], "noisy, drawn again": noisy[1]}
    show(whole, f"the scene, {SIZE * CELL} x {SIZE * CELL}", fine)
    enlarge(whole, part, fine, top=13, left=3)
    for axis, (title, image) in zip(others, images.items()):
        show(axis, title, image)
    show(others[-1], "standard deviation: white 0, black 0.3", (1 - spread / 0.3).clamp_min(0).expand(3, -1, -1))
    figure.savefig(path, dpi=100)


def show(axis, title, image):
    """(3, H, W) in [0, 1], with a frame."""
    axis.imshow(image.permute(1, 2, 0).tolist(), interpolation="nearest")
    axis.set_title(title, fontsize=11)
    axis.set_xticks([])
    axis.set_yticks([])


def enlarge(whole, part, fine, top, left, count=4):
    """Mark count x count cells in `whole`; show them in `part`, with a circle on one pixel of each."""
    y, x, size = top * CELL, left * CELL, count * CELL
    for colour, linewidth in (("white", 3), ("black", 1)):
        corners = [x, x + size, x + size, x, x], [y, y, y + size, y + size, y]
        whole.plot(*corners, color=colour, linewidth=linewidth)
    show(part, f"{count} x {count} cells of it, one pixel drawn from each", fine[:, y : y + size, x : x + size])
    for edge in range(1, count):
        part.axhline(edge * CELL - 0.5, color="white", linewidth=1.5)
        part.axvline(edge * CELL - 0.5, color="white", linewidth=1.5)
    pick = torch.randint(CELL, (2, count, count), generator=torch.Generator().manual_seed(0))
    corner = torch.arange(count) * CELL
    rows, columns = pick[0] + corner[:, None], pick[1] + corner
    part.scatter(columns.flatten().tolist(), rows.flatten().tolist(), s=30, facecolors="white", edgecolors="black")


# ------------------------------------------------------------------------------------------------------- README

PART = 190  # rows and columns of each photograph that are shown, at 100 %
SIGMA = 25


def photos_picture(path):
    """Noisy, denoised and clean parts of two photographs of scikit-image's: Eileen Collins (NASA, public domain) with
    Gaussian noise, Chelsea the cat (Stefan van der Walt, CC0) as a camera takes her in little light."""
    import skimage.data

    generator = torch.Generator().manual_seed(0)
    model = Model("camera", device="cpu")
    model.load_pretrained_model()
    astronaut, cat = (torch.from_numpy(photo()).permute(2, 0, 1)[None, :, : photo().shape[0] // 2 * 2, :450].float()
                      for photo in (skimage.data.astronaut, skimage.data.chelsea))  # fmt: skip
    camera = cameras.draw_cameras(torch.full((1, 1, 1, 1), 5e-3), generator)
    taken, still = (cameras.photographed(cat / 255, camera, generator, frames) * 255 for frames in (1, None))
    shown = []
    for noisy, clean, top, left in (
        (noises.gaussian(astronaut, SIGMA, generator), astronaut, 20, 130),
        (taken, still.round(), 60, 130),
    ):
        noisy = noisy.round().clamp(0, 255)
        versions = {"noisy": noisy, "denoised": model.predict(noisy, on_tile=False), "clean": clean}
        for name, image in versions.items():
            part = image[:, :, top : top + PART, left : left + PART]
            psnr = metrics.psnr_a(image / 255, clean / 255)
            shown.append((name if name == "clean" else f"{name}, {psnr:.1f} dB", part[0]))
    inch, gap, title = 100, 6, 22  # pixels
    width, height = len(shown) * (PART + gap) - gap, PART + title
    figure = figure_maker()(width / inch, height / inch)
    figure.set_layout_engine("none")
    for number, (name, image) in enumerate(shown):
        axis = figure.add_axes((number * (PART + gap) / width, 0, PART / width, PART / height))
        axis.imshow(image.permute(1, 2, 0).div(255).clamp(0, 1).tolist(), interpolation="nearest", aspect="auto")
        axis.set_axis_off()
        axis.set_title(name, fontsize=9, pad=4)
    figure.savefig(path, dpi=inch)


# ----------------------------------------------------------------------------------------------- what made it better


def better_picture(path):
    """What every training reached, and in how much time of one core, those that follow each other joined."""
    figure = figure_maker()(8.0, 4.2)
    axes = figure.subplots()
    runs = facts.tables("trainings.md")[0]
    for network, marker in (("prescribed", "o"), ("RED-Net", "s")):
        for chain, style in (("in stages", "-"), ("in one run", "")):
            rows = [row for row in runs if (row["network"], row["trained"]) == (network, chain)]
            minutes, psnr = ([float(row[name]) for row in rows] for name in ("core minutes", "PSNR A"))
            colour = "black" if style else "white"
            axes.plot(minutes, psnr, f"{style}{marker}", color="black", markerfacecolor=colour, markersize=7,
                      label=f"{network}, {chain}")  # fmt: skip
            for x, y, row in zip(minutes, psnr, rows):
                place = (6, -3) if not style else (-10, 4) if network == "prescribed" else (4, -12)
                axes.annotate(row["no."], (x, y), place, textcoords="offset points", fontsize=9)
    best = facts.BEST["torch.nn"]
    axes.axhline(best, color="black", linestyle=":", linewidth=1)
    axes.text(250, best, f"torch.nn's best, {best:.2f}", va="bottom", ha="center", fontsize=9)
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of one core, from random weights on")
    axes.set_ylabel("PSNR A, one pass, dB")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)


PICTURES = {
    "photos.png": photos_picture,
    "better.png": better_picture,
    "three-maps.png": three_maps,
    "phases.png": phases_picture,
    "upsampling.png": upsampling_picture,
    "tape.png": tape_picture,
    "noise.png": noise_picture,
}


def main(folder):
    for name, draw in PICTURES.items():
        draw(Path(folder) / name)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else FOLDER)
