"""The pictures of a report, read back: what their points, lines and areas are in the numbers of their axes."""

import html
import re
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

FIGURE = re.compile(r"<figure><figcaption><b>([^<]*)</b>(?:(?!</figure>).)*?(<svg.*?</svg>)", re.DOTALL)


def pictures_of(page):
    """The pictures of a page, by their captions' first words."""
    return {html.unescape(title): Picture.of(svg) for title, svg in FIGURE.findall(page)}


@dataclass
class Picture:
    """What is drawn, by what CSS calls its color, in data coordinates.

    Args:
        dots: shape (n, 2) each: filled ones.
        hollow: the same, of those that are not.
        lines: each a list of arrays of corners.
        areas: the same.
        names: what stands under the horizontal axis, if that is no number: x is the name's place then, from 0.
        logarithmic: whether the horizontal axis is: x is the exponent of 10 then.
    """

    dots: dict
    hollow: dict
    lines: dict
    areas: dict
    names: list
    logarithmic: bool

    @classmethod
    def of(cls, svg):
        root = ElementTree.fromstring(svg)
        names, logarithmic, x = _axis(_group(root, "matplotlib.axis_1"), "x")
        none, log, y = _axis(_group(root, "matplotlib.axis_2"), "y")
        assert not none
        assert not log, "no picture of a search has rewards in the logarithm"

        def data(points):
            points = np.reshape(np.asarray(points, float), (-1, 2))
            return np.stack([x(points[:, 0]), y(points[:, 1])], axis=1)

        found = {name: {} for name in ("dots", "hollow", "lines", "areas")}
        paths = {one.get("id"): _corners(one.get("d")) for one in root.iter("path") if one.get("id")}
        for group in _group(root, "axes_1"):
            area = "PolyCollection" in group.get("id")
            for clipped in (one for one in group if one.get("clip-path")):
                if clipped.tag == "path":
                    corners = data(_corners(clipped.get("d")))
                    found["lines"].setdefault(_color(clipped), []).append(corners)
                for use in clipped.iter("use"):
                    place = np.array([float(use.get("x")), float(use.get("y"))])
                    if area:
                        corners = data(paths[use.get("href")[1:]] + place)
                        found["areas"].setdefault(_color(use), []).append(corners)
                    else:
                        kind = "hollow" if "fill-opacity: 0;" in use.get("style") else "dots"
                        found[kind].setdefault(_color(use), []).append(data(place)[0])
        for kind in ("dots", "hollow"):
            found[kind] = {color: np.array(points) for color, points in found[kind].items()}
        return cls(**found, names=names, logarithmic=logarithmic)


def _group(root, name):
    (found,) = [one for one in root.iter("g") if one.get("id") == name]
    return found


def _color(one):
    return re.search(r"var\((--s\d)\)", one.get("style"))[1]


def _corners(path):
    return np.array([[float(a), float(b)] for a, b in re.findall(r"[ML] (\S+) (\S+)", path)])


def _axis(group, side):
    """The names at the ticks of an axis, if they are none of numbers; whether it is logarithmic; and the function from
    its pixels to numbers."""
    pixels, texts, log = [], [], False
    for tick in (one for one in group if one.get("id").startswith(f"{side}tick")):
        text = "".join("".join(part.itertext()) for part in tick.iter("text"))
        text = re.sub(r"\s", "", text).replace("\N{MINUS SIGN}", "-")
        if text:
            (mark,) = tick.iter("use")
            pixels.append(float(mark.get(side)))
            texts.append(text)
            log = log or any(True for _ in tick.iter("tspan"))
    if log:
        assert all(text.startswith("10") for text in texts)
        numbers, names = [int(text[2:]) for text in texts], []
    elif all(re.fullmatch(r"-?[\d.]+", text) for text in texts):
        numbers, names = [float(text) for text in texts], []
    else:
        numbers, names = range(len(texts)), texts
    slope, shift = np.polyfit(pixels, numbers, 1)
    np.testing.assert_allclose(slope * np.array(pixels) + shift, numbers, rtol=0, atol=1e-5 * np.ptp(numbers))
    return names, log, lambda at: slope * at + shift
