"""Simulated cells with exact masks.

Each simulator draws a geometry (tubules, worms or ellipsoids, in pixels), renders it
with its brightness, blurs it by the point spread (a Gaussian, elongated along z), adds
the light of the cytosol and an uneven background, and counts photons: shot noise,
read noise, uint16. The mask is the geometry itself, before any blur.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "ER",
    "MITOCHONDRIA",
    "NUCLEI",
    "simulate_er",
    "simulate_fields",
    "simulate_mitochondria",
    "simulate_nuclei",
]

Shape = Sequence[int]
Seed = int | np.random.Generator
ImageAndMask = tuple[np.ndarray, np.ndarray]


class _Optics(NamedTuple):
    pixel: float  # micrometres
    step: float  # between planes, micrometres
    lateral: float  # standard deviation of the point spread, pixels
    axial: float  # the same along z, pixels
    photons: float  # of a bright structure, on average
    gain: float  # grey levels per photon
    offset: float  # grey levels without light
    read_noise: float  # standard deviation, grey levels

    def voxel(self, ndim):
        """Edges of a voxel, in pixels."""
        return np.array([self.step / self.pixel, 1.0, 1.0])[-ndim:]

    def blur(self, ndim):
        """Standard deviation of the point spread, in voxels."""
        return np.array([self.axial, self.lateral, self.lateral])[-ndim:] / self.voxel(ndim)

    def depth(self, shape):
        """Thickness of a stack in pixels, 0 for a section."""
        return shape[0] * self.step / self.pixel if len(shape) == 3 else 0.0


ER = _Optics(0.06, 0.12, 0.8, 2.2, photons=150, gain=40, offset=100, read_noise=25)
MITOCHONDRIA = _Optics(0.06, 0.18, 2.0, 5.0, photons=60, gain=7, offset=220, read_noise=10)
NUCLEI = _Optics(0.4, 1.0, 1.0, 4.0, photons=400, gain=4, offset=100, read_noise=8)


def simulate_er(shape: Shape = (256, 256), *, seed: Seed = 0) -> ImageAndMask:
    """Endoplasmic reticulum: a polygonal network of tubules, with sheets near the nucleus.

    Parameters
    ----------
    shape : tuple of int
        (y, x) for a thin section, (z, y, x) for a stack. A pixel is 0.06 um, a
        step between planes 0.12 um.
    seed : int or numpy.random.Generator
        The same seed gives the same cell.

    Returns
    -------
    image : ndarray of uint16
        What a super-resolved fluorescence microscope would record, grey levels.
    mask : ndarray of uint8
        1 where the centre of the pixel lies in a tubule or a sheet, else 0.

    Raises
    ------
    ValueError
        If the shape is not two or three positive integers.
    """
    shape, rng = _checked(shape), np.random.default_rng(seed)
    body, depth = _Cell.draw(shape, rng), ER.depth(shape)
    levels = (0, 1 / 3, 2 / 3, 1) if depth else (0,)
    balls = _Balls.join([_network(body, depth, level, rng) for level in levels])
    signal, mask = _render(balls, shape, ER)
    return _acquire(signal, _haze(body, 0.04, rng), ER, rng), mask


def simulate_mitochondria(shape: Shape = (256, 256), *, seed: Seed = 0) -> ImageAndMask:
    """Mitochondria: curved and branched worms, rings, and some out of focus.

    Parameters
    ----------
    shape : tuple of int
        (y, x) for a thin section, (z, y, x) for a stack. A pixel is 0.06 um, a
        step between planes 0.18 um.
    seed : int or numpy.random.Generator
        The same seed gives the same cell.

    Returns
    -------
    image : ndarray of uint16
        What a fluorescence microscope would record, grey levels.
    mask : ndarray of uint8
        1 where the centre of the pixel lies in a mitochondrion, else 0. Those out of
        focus, which only a section has, are left out, as an annotator would.

    Raises
    ------
    ValueError
        If the shape is not two or three positive integers.
    """
    from scipy.ndimage import gaussian_filter

    shape, rng = _checked(shape), np.random.default_rng(seed)
    body, depth = _Cell.draw(shape, rng), MITOCHONDRIA.depth(shape)
    balls, worm = _worms(body, depth, rng)
    focused = (rng.random(worm.max(initial=0) + 1) < (1.0 if depth else 0.8))[worm]
    signal, mask = _render(balls.where(focused), shape, MITOCHONDRIA)
    ghosts, _ = _render(balls.where(~focused), shape, MITOCHONDRIA)
    haze = _haze(body, 0.12, rng) + 0.8 * gaussian_filter(ghosts, 5)
    return _acquire(signal, haze, MITOCHONDRIA, rng), mask


def simulate_nuclei(shape: Shape = (256, 256), *, seed: Seed = 0) -> ImageAndMask:
    """Nuclei: smooth deformed ellipsoids with chromatin and nucleoli, some touching.

    Parameters
    ----------
    shape : tuple of int
        (y, x) for a thin section, (z, y, x) for a stack. A pixel is 0.4 um, a
        step between planes 1 um.
    seed : int or numpy.random.Generator
        The same seed gives the same field.

    Returns
    -------
    image : ndarray of uint16
        What a fluorescence microscope would record, grey levels.
    mask : ndarray of uint8
        1 where the centre of the pixel lies in a nucleus, else 0.

    Raises
    ------
    ValueError
        If the shape is not two or three positive integers.
    """
    shape, rng = _checked(shape), np.random.default_rng(seed)
    signal, mask = np.zeros(shape), np.zeros(shape, np.uint8)
    for centre, radius in _places(shape, rng):
        _add_nucleus(signal, mask, centre, radius, rng)
    uneven = 0.03 * (1 + 0.2 * _smooth(rng, max(shape) / 2, waves=4)(_grid(shape[-2:])))
    return _acquire(signal, uneven, NUCLEI, rng), mask


def simulate_fields(
    simulate: Callable[..., ImageAndMask],
    count: int = 24,
    shape: Shape = (256, 256),
    *,
    seed: int = 0,
) -> ImageAndMask:
    """Many independent fields of one simulator, for training.

    Parameters
    ----------
    simulate : callable
        `simulate_er`, `simulate_mitochondria` or `simulate_nuclei`.
    count : int
        Number of fields, at least 1.
    shape : tuple of int
        Of one field.
    seed : int or numpy.random.Generator
        The same seed gives the same fields, and more fields begin with the same ones.

    Returns
    -------
    images : ndarray of uint16, (count, *shape)
    masks : ndarray of uint8, (count, *shape)

    Raises
    ------
    ValueError
        If the count is below 1 or the shape is not two or three positive integers.
    """
    if not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"count should be an integer of at least 1, not {count!r}.")
    fields = [simulate(shape, seed=rng) for rng in np.random.default_rng(seed).spawn(count)]
    images, masks = (np.stack(part) for part in zip(*fields))
    return images, masks


def _checked(shape):
    sizes = tuple(shape) if np.iterable(shape) else ()
    if len(sizes) not in (2, 3) or any(
        not isinstance(size, int | np.integer) or size < 1 for size in sizes
    ):
        raise ValueError(f"shape should be (y, x) or (z, y, x), positive integers, not {shape!r}.")
    return tuple(map(int, sizes))


def _grid(shape):
    """Coordinates of all pixels, the last axis (z), y, x."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)


def _smooth(rng, length, ndim=2, waves=16):
    """A random function of position: mean 0, variance 1, correlated over `length` pixels."""
    vectors = (rng.normal(size=(ndim, waves)) / length).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)
    scale = np.sqrt(2 / waves)

    def field(points):
        return np.cos(points.astype(np.float32) @ vectors + phases).sum(-1) * scale

    return field


class _Cell(NamedTuple):
    """The outline of a cell seen from above, its nucleus off the middle of the view."""

    shape: tuple  # of the view, (y, x)
    centre: np.ndarray
    radius: float
    nucleus: float  # radius
    ripples: np.ndarray  # of the outline: amplitude and phase of five harmonics

    @classmethod
    def draw(cls, shape, rng):
        shape, size = shape[-2:], max(shape[-2:])
        angle, distance = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.5, 1.1)
        centre = np.array(shape) / 2 + distance * np.array([np.sin(angle), np.cos(angle)])
        ripples = np.stack([rng.normal(0, 0.06, 5), rng.uniform(0, 2 * np.pi, 5)])
        radius = distance + size * rng.uniform(-0.05, 0.5)
        return cls(shape, centre, radius, size * rng.uniform(0.15, 0.25), ripples)

    def place(self, points):
        """0 in the centre of the cell, 1 at its border."""
        y, x = np.moveaxis(points - self.centre, -1, 0)
        distance, angle = np.hypot(y, x), np.arctan2(y, x)
        amplitudes, phases = self.ripples
        outline = 1 + np.cos(angle[..., None] * np.arange(1, 6) + phases) @ amplitudes
        return distance / (self.radius * outline)

    def holds(self, points, border=1.0):
        """Whether points lie in the cytoplasm, up to a place near the border."""
        return (self.distance(points) > 0) & (self.place(points) < border)

    def distance(self, points):
        """From the nucleus, in pixels, negative inside."""
        return np.linalg.norm(points - self.centre, axis=-1) - self.nucleus

    def nearness(self, points):
        """1 at the nucleus, falling to 0 far from it."""
        return np.exp(-np.maximum(self.distance(points), 0) / (0.3 * max(self.shape)))


class _Balls(NamedTuple):
    """A structure as the union of many balls."""

    centres: np.ndarray  # (n, 3): z, y, x in pixels
    radii: np.ndarray
    brightness: np.ndarray

    @classmethod
    def join(cls, parts):
        return cls(*map(np.concatenate, zip(*parts)))

    def where(self, keep):
        return _Balls(*(part[keep] for part in self))


def _network(body, depth, level, rng):
    """One layer of tubules and sheets: the borders and some of the cells of a Voronoi diagram.

    The level, 0 to 1, lifts it from the coverslip towards the dome of the cell.
    """
    from scipy.spatial import Voronoi

    seeds = _seeds(body, rng)
    inside = body.holds(seeds, 1 - 0.4 * level)
    diagram = Voronoi(seeds)
    ends, corners = np.array(diagram.ridge_vertices), diagram.vertices
    half = np.array(body.shape) / 2
    near = (np.abs(corners - half) < half + 20).all(1)
    kept = inside[diagram.ridge_points].any(1) & (ends >= 0).all(1) & near[ends].all(1)
    kept &= rng.random(len(ends)) < 0.97
    height = _dome(body, depth, level, rng)
    lift, glow = rng.normal(0, 2, len(corners)), rng.normal(0, 0.4, len(corners))
    corners = np.column_stack([height(corners) + lift, corners, glow])
    tubules = _segments(corners[ends[kept, 0]], corners[ends[kept, 1]])
    sheets = _sheets(body, seeds, inside, rng)
    sheets = np.column_stack([height(sheets), sheets, np.zeros(len(sheets))])
    points, glow = np.split(np.concatenate([tubules, sheets]), [3], axis=1)
    flat = points[:, 1:]
    brightness = np.exp(glow[:, 0] + 0.3 * _smooth(rng, 10)(flat))
    brightness *= 0.15 + 1.5 * body.nearness(flat)
    points[:, 1:] += 1.5 * np.stack([_smooth(rng, 5)(flat), _smooth(rng, 5)(flat)], -1)
    return _Balls(points, np.full(len(points), 1.25), brightness)


def _seeds(body, rng, spacing=7.5, margin=32):
    """Centres of the polygons: a disturbed lattice, dense near the nucleus, sparse far from it."""
    seeds = _grid([int((size + 2 * margin) / spacing) + 1 for size in body.shape])
    seeds[1::2, :, 1] += 0.5
    seeds = (seeds * spacing - margin).reshape(-1, 2)
    seeds += rng.normal(0, 0.25 * spacing, seeds.shape)
    share = 0.25 + 0.6 * body.nearness(seeds) + 0.15 * _smooth(rng, 30)(seeds)
    return seeds[rng.random(len(seeds)) < share.clip(0.2)]


def _dome(body, depth, level, rng):
    """Height of a layer of the cell in pixels, as a function of (y, x)."""
    waves = _smooth(rng, 40)

    def height(points):
        dome = np.sqrt(np.clip(2 - 2 * body.place(points), 0, 1))
        return depth * (0.15 + 0.7 * level * dome) + 2 * waves(points)

    return height


def _segments(start, end, step=0.7):
    """Points less than a pixel apart along straight segments, all columns interpolated."""
    counts = np.ceil(np.linalg.norm((end - start)[:, :3], axis=1) / step).astype(int) + 1
    segment = np.repeat(np.arange(len(counts)), counts)
    along = np.arange(len(segment)) - (np.cumsum(counts) - counts)[segment]
    share = along / np.maximum(counts - 1, 1)[segment]
    return start[segment] + share[:, None] * (end - start)[segment]


def _sheets(body, seeds, inside, rng):
    """Points (y, x) that fill some polygons, most of them near the nucleus."""
    from scipy.spatial import KDTree

    filled = inside & (rng.random(len(seeds)) < 0.3 * body.nearness(seeds) ** 2)
    pixels = _grid(body.shape).reshape(-1, 2)
    pixels = pixels[body.nearness(pixels) > 0.2]
    return pixels[filled[KDTree(seeds).query(pixels)[1]]]


def _worms(body, depth, rng, longest=160):
    """Curved worms, a quarter of them branching off another; and the worm of each ball."""
    from scipy.ndimage import gaussian_filter1d

    start = rng.uniform(-20, np.array(body.shape) + 20, (4000, 2))
    start = start[body.holds(start, 0.95)]
    area = len(start) / 4000 * np.prod(body.shape) * (2 if depth else 1)
    start = start[: max(3, int(area * rng.uniform(0.6, 1.6) / 1200))]
    count = len(start)
    bend = gaussian_filter1d(rng.normal(size=(count, longest)), 10, axis=1)
    bend *= rng.uniform(0.05, 0.4, (count, 1))
    bend[rng.random(count) < 0.06] = 2 * np.pi / 40
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(bend, 1)
    paths = start[:, None] + np.cumsum(np.stack([np.sin(angle), np.cos(angle)], -1), 1)
    for branch in np.flatnonzero(rng.random(count) < 0.25):
        paths[branch] += paths[branch - 1, rng.integers(5, 40)] - paths[branch, 0]
    lengths = rng.lognormal(np.log(40), 0.7, (count, 1)).clip(8, longest)
    worm, along = np.nonzero(np.arange(longest) < lengths)
    flat = paths[worm, along]
    z = depth * rng.uniform(0.1, 0.9, count)[worm] + 3 * _smooth(rng, 25)(flat)
    radii = rng.uniform(2.8, 4.8, count)[worm] * (1 + 0.15 * _smooth(rng, 8)(flat))
    brightness = rng.lognormal(0, 0.35, count)[worm] * np.exp(0.2 * _smooth(rng, 8)(flat))
    return _Balls(np.column_stack([z, flat]), radii.clip(2), brightness), worm


def _places(shape, rng):
    """Centres (z, y, x) and radii of nuclei in pixels: loose clusters that hardly overlap."""
    view, depth = np.array(shape[-2:]), NUCLEI.depth(shape)
    typical = rng.uniform(8, 22)
    crowd, sparse = _smooth(rng, 80), rng.uniform(0.2, 1.2)
    kept = []
    for _ in range(int(view.prod() / typical**2) + 1):
        centre = np.array([rng.uniform(0.35, 0.65) * depth, *rng.uniform(-10, view + 10)])
        radius = typical * rng.lognormal(0, 0.15)
        lonely = crowd(centre[1:]) < rng.normal(sparse, 0.5)
        if not lonely and not any(
            np.hypot(*(centre - other)[1:]) < 0.92 * (radius + reach) for other, reach in kept
        ):
            kept.append((centre, radius))
    return kept


def _add_nucleus(signal, mask, centre, radius, rng):
    from scipy.ndimage import gaussian_filter

    ndim = signal.ndim
    centre, voxel = centre[-ndim:], NUCLEI.voxel(ndim)
    low = np.floor((centre - 1.6 * radius) / voxel).clip(0).astype(int)
    high = np.minimum(np.ceil((centre + 1.6 * radius) / voxel).astype(int), signal.shape)
    if (high <= low).any():
        return
    box = tuple(map(slice, low, high))
    offset = (_grid(high - low) + low) * voxel - centre
    level = _ellipsoid(offset, rng) / radius
    level *= 1 + 0.08 * _smooth(rng, 0.6 * radius, ndim)(offset)
    chromatin = gaussian_filter(rng.normal(size=level.shape), 1.5 / voxel)
    nucleoli = _smooth(rng, 0.18 * radius, ndim)(offset) > 1.6
    texture = np.exp(0.15 * chromatin / max(chromatin.std(), 1e-6)) * np.where(nucleoli, 0.6, 1)
    coverage = np.clip((1 - level) * radius + 0.5, 0, 1)
    signal[box] = np.maximum(signal[box], rng.lognormal(0, 0.3) * texture * coverage)
    mask[box] |= level <= 1


def _ellipsoid(offset, rng):
    """Distance from the centre, stretched in a random direction and flattened along z."""
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flat = offset[..., -2:] @ turn * [stretch, 1 / stretch]
    return np.sqrt((flat**2).sum(-1) + ((1.3 * offset[..., :-2]) ** 2).sum(-1))


def _render(balls, shape, optics):
    """Brightness and mask of a union of balls, voxel by voxel.

    A further coordinate, sqrt(largest radius^2 - radius^2), makes the nearest centre
    the one of the smallest distance^2 - radius^2, so that balls of all sizes count.
    """
    from scipy.spatial import KDTree

    signal, mask = np.zeros(shape), np.zeros(shape, np.uint8)
    if not len(balls.radii):
        return signal, mask
    ndim, largest = len(shape), balls.radii.max()
    tree = KDTree(np.column_stack([balls.centres[:, -ndim:], np.sqrt(largest**2 - balls.radii**2)]))
    voxels = np.pad(_grid(shape) * optics.voxel(ndim), [(0, 0)] * ndim + [(0, 1)])
    distance, nearest = tree.query(voxels, distance_upper_bound=largest + 0.5)
    hit = np.isfinite(distance)
    radius, nearest = balls.radii[nearest[hit]], nearest[hit]
    distance = np.sqrt(np.maximum(distance[hit] ** 2 - largest**2 + radius**2, 0))
    signal[hit] = balls.brightness[nearest] * np.clip(radius - distance + 0.5, 0, 1)
    mask[hit] = distance <= radius
    return signal, mask


def _haze(body, cytosol, rng):
    """Light from elsewhere: the cytosol, and the background, both uneven."""
    from scipy.ndimage import gaussian_filter

    pixels = _grid(body.shape)
    inside = gaussian_filter(body.holds(pixels).astype(float), 12)
    return (0.03 + cytosol * inside) * (
        1 + 0.2 * _smooth(rng, max(body.shape) / 2, waves=4)(pixels)
    )


def _acquire(signal, haze, optics, rng):
    """The light as the camera records it, exposed for the bright parts of the structure."""
    from scipy.ndimage import gaussian_filter

    ndim = signal.ndim
    light = gaussian_filter(signal, optics.blur(ndim))
    light += 0.2 * gaussian_filter(signal, 8 / optics.voxel(ndim))
    bright = np.percentile(light[signal > 0], 95) if signal.any() else 1.0
    photons = optics.photons * rng.lognormal(0, 0.4)
    counts = rng.poisson(np.maximum(light / bright + haze, 0) * photons)
    image = counts * optics.gain + optics.offset + rng.normal(0, optics.read_noise, signal.shape)
    return np.clip(np.rint(image), 0, 65535).astype(np.uint16)
