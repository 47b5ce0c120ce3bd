"""From a person and the circumstances of one photo to its pixels: rays onto the head, light, camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from facekd.core.types import Array
from facekd.photos.synth import frames, paint
from facekd.photos.synth.people import DrawnPerson
from facekd.photos.synth.scene import backdrop, body
from facekd.photos.synth.shape import place
from facekd.photos.synth.shots import Shot, rotation, shoot
from facekd.photos.synth.skin import HeadMaps, head

STEPS, FINE = 14, 8  # of a ray toward the surface


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered photo with the truth about its face."""

    pixels: Array  # uint8[H, W, 3], RGB
    landmarks: Array  # float32[5, 2], (x, y), in the order of core.types.Faces
    quality: int  # of the JPEG that the photo's camera writes


def render(person: DrawnPerson, seed: int, photo: int) -> Rendered:
    """Photo number `photo` of `person`: a pure function of the three.

    Args:
        seed: of the photos; the person's own seed gives the photos of the command ``facekd synth``.
        photo: 0 or more.
    """
    shot, rng = shoot(person, seed, photo)
    turn = rotation(shot)
    maps = head(person)
    size, scale = shot.size, shot.scale
    column, row = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    cam_x, cam_y = (column - shot.center[0]) / scale, (shot.center[1] - row) / scale

    color = np.zeros((size, size, 3), np.float32)
    cover, depth = np.zeros((size, size), np.float32), np.full((size, size), -9, np.float32)
    below = slice(max(0, int(shot.center[1] - 0.5 * scale)), size)
    color[below], cover[below], depth[below] = body(person, shot, turn, cam_x[below], cam_y[below], rng)
    window = _window(maps, shot)
    z, x_head, y_head, z_head, seen = _cast(maps, turn, shot, cam_x[window], cam_y[window])
    texture = cv2.remap(maps.color, *place(x_head, y_head, z_head)[:2], cv2.INTER_LINEAR)
    face = np.ascontiguousarray(texture[..., :3])
    spots = project(_on_face(maps, _spots(person, shot)), shot, turn)
    _features(face, person, shot, spots, x_head, y_head, window)

    alpha = seen[..., None]
    color[window] += (face - color[window]) * alpha
    nearer = seen > 0.5
    depth[window] = np.where(nearer, z, depth[window])
    cover[window] = np.maximum(cover[window], seen)
    hair = np.zeros_like(depth)
    hair[window] = texture[..., 3] * seen

    lit = _light(color, np.where(cover > 0.5, depth, -2.0).astype(np.float32), hair, shot)
    image = backdrop(shot, rng)
    image += (lit - image) * cover[..., None]
    for side, spot in ((-1, spots[0]), (1, spots[1])):
        part = _patch(spot, 0.12 * scale, window)
        inner = _inside(part, window)
        paint.glints(image[part], x_head[inner], y_head[inner], person, shot, side, 1.2 / scale)
    if shot.glasses:
        frames.draw(image, person, shot, lambda points: project(points, shot, turn))
    return Rendered(_camera(image, shot, rng), spots[:5].astype(np.float32), shot.quality)


def jpeg(rendered: Rendered) -> bytes:
    """The photo as a JPEG file, of the quality its camera is set to."""
    bgr = cv2.cvtColor(rendered.pixels, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, rendered.quality))
    assert ok
    return data.tobytes()


def project(points: Array, shot: Shot, turn: Array) -> Array:
    """Where head points float[n, 3] lie in the photo, float64[n, 2]."""
    cam = points @ turn.T
    near = 1 - cam[:, 2:] / shot.distance  # a ray at depth z is this much nearer to the axis
    return np.asarray(cam[:, :2] / near * [shot.scale, -shot.scale] + shot.center)


def _spots(p: DrawnPerson, shot: Shot) -> Array:
    """(x, y) of the five landmarks and of the mouth's middle, float64[6, 2]."""
    wide, lift = paint.half_mouth(p, shot), paint.corner_lift(p, shot)
    return np.array([
        [-p.eye_x, p.eye_y], [p.eye_x, p.eye_y], [0, p.nose_y],
        [-wide, p.mouth_y + lift], [wide, p.mouth_y + lift], [0, p.mouth_y],
    ])  # fmt: skip


def _on_face(maps: HeadMaps, flat: Array) -> Array:
    """The points (x, y, z) of the bare face before which (x, y) lie, float64[n, 3]."""
    points = np.column_stack([flat, np.full(len(flat), 1.6)]).astype(np.float32)
    for _ in range(24):
        column, row, norm = place(points[:, :1], points[:, 1:2], points[:, 2:])
        points[:, 2:] -= 0.7 * (norm - cv2.remap(maps.bare, column, row, cv2.INTER_LINEAR))
    return points.astype(np.float64)


def _window(maps: HeadMaps, shot: Shot) -> tuple[slice, slice]:
    reach = float(maps.radius.max()) * shot.scale * (1 + 1.3 / shot.distance) + 2
    x, y = shot.center
    rows = slice(max(0, int(y - reach)), min(shot.size, int(y + reach)))
    return rows, slice(max(0, int(x - reach)), min(shot.size, int(x + reach)))


def _cast(maps: HeadMaps, turn: Array, shot: Shot, x: Array, y: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Follow the rays through the pixels until they meet the head.

    Returns:
        depth toward the viewer, the head coordinates x, y, z met, and how much of the pixel the head fills;
        float32[h, w] each.
    """
    turn32 = turn.astype(np.float32)
    lean = np.float32(-1 / shot.distance)
    # The head point at depth z is start + z * way.
    start = [turn32[0, i] * x + turn32[1, i] * y for i in range(3)]
    way = [lean * start[i] + turn32[2, i] for i in range(3)]
    reach = np.float32(maps.radius.max() + 0.02)
    z = np.sqrt(np.maximum(reach * reach - x * x - y * y, 0)) + np.float32(0.05)

    # Every other ray first; all rays then start just before what their neighbors met.
    coarse, _ = _march(maps.radius, [s[::2, ::2] for s in start], [w[::2, ::2] for w in way], z[::2, ::2], STEPS)
    coarse = cv2.dilate(coarse, np.ones((3, 3), np.uint8)).repeat(2, axis=0).repeat(2, axis=1)
    met, nearest = _march(maps.radius, start, way, coarse[: x.shape[0], : x.shape[1]] + np.float32(0.02), FINE)
    px, py, pz = (start[i] + met * way[i] for i in range(3))
    seen = np.clip(1.6 - nearest * np.float32(shot.scale), 0, 1)
    seen = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))  # rays that graze a lock of hair
    seen = cv2.GaussianBlur(seen, (0, 0), 0.6)
    return met, px, py, pz, seen


def _march(radius: Array, start: list[Array], way: list[Array], z: Array, steps: int) -> tuple[Array, Array]:
    """Walk from depth `z` down the rays ``start + z * way``: the depth nearest to the surface, and how near it is."""
    nearest = np.full_like(z, 9)
    met = z
    for _ in range(steps):
        column, row, norm = place(start[0] + z * way[0], start[1] + z * way[1], start[2] + z * way[2])
        gap = norm - cv2.remap(radius, column, row, cv2.INTER_LINEAR)
        closer = gap < nearest
        nearest = np.where(closer, gap, nearest)
        met = np.where(closer, z, met)
        z = z - np.float32(0.75) * gap
    return met, nearest


def _features(
    face: Array, p: DrawnPerson, shot: Shot, spots: Array, x: Array, y: Array, window: tuple[slice, slice]
) -> None:
    """Paint eyes, brows, nose and mouth, each in the patch of the window where it can be."""
    scale, soft = shot.scale, 1.15 / shot.scale
    for side, center in ((-1, spots[0]), (1, spots[1])):
        part = _inside(_patch(center - [0, 0.07 * scale], 0.36 * scale, window), window)
        paint.brow(face[part], x[part], y[part], p, shot, side, soft)
        part = _inside(_patch(center, 0.26 * scale, window), window)
        paint.eye(face[part], x[part], y[part], p, shot, side, soft)
    part = _inside(_patch(spots[2], 0.34 * scale, window), window)
    paint.nostrils(face[part], x[part], y[part], p, soft)
    part = _inside(_patch(spots[5], 0.48 * scale, window), window)
    paint.mouth(face[part], x[part], y[part], p, shot, soft)
    part = _inside(_patch(spots[2], 0.75 * scale, window), window)
    paint.folds(face[part], x[part], y[part], p, shot)


def _patch(center: Array, half: float, window: tuple[slice, slice]) -> tuple[slice, slice]:
    """The square of the photo about `center`, cut to the window."""
    x, y = float(center[0]), float(center[1])
    rows, columns = window
    return (
        slice(max(rows.start, min(rows.stop, int(y - half))), max(rows.start, min(rows.stop, int(y + half) + 2))),
        slice(
            max(columns.start, min(columns.stop, int(x - half))),
            max(columns.start, min(columns.stop, int(x + half) + 2)),
        ),
    )


def _inside(part: tuple[slice, slice], window: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = window
    return (
        slice(part[0].start - rows.start, part[0].stop - rows.start),
        slice(part[1].start - columns.start, part[1].stop - columns.start),
    )


def _light(color: Array, depth: Array, hair: Array, shot: Shot) -> Array:
    """Light the surface: lamp with shadows, fill from the other side, ambient light, shine; linear RGB."""
    smooth = cv2.GaussianBlur(depth, (0, 0), 0.8)
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=shot.scale / 8)
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=-shot.scale / 8)
    norm = 1 / np.sqrt(gx * gx + gy * gy + 1)
    nx, ny, nz = -gx * norm, -gy * norm, norm
    lx, ly, lz = (np.float32(v) for v in shot.light)
    toward = nx * lx + ny * ly + nz * lz
    shadow = _shadow(smooth, shot)
    other = np.maximum(-nx * lx * np.float32(0.8) + nz * np.float32(0.5), 0) * np.float32(shot.fill)
    sky = np.float32(0.72) + np.float32(0.28) * ny
    half = np.array([lx, ly, lz + 1], np.float32) / np.float32(np.sqrt(2 + 2 * lz))
    gloss = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0, 1)
    for _ in range(4):
        gloss *= gloss
    gloss *= (1 - np.float32(0.8) * shadow) * (np.float32(0.09) - np.float32(0.02) * hair) * np.float32(shot.shine)

    # Light bleeds under the skin, red furthest, and into shadows; hair lets little of it through.
    bleed = (1 - np.float32(0.7) * hair) * (1 - toward)
    planes = []
    for channel, (wrap, dark) in enumerate(((0.28, 0.68), (0.17, 0.8), (0.12, 0.84))):
        lamp, ambient = np.float32(shot.lamp[channel]), np.float32(shot.ambient[channel])
        light = bleed * np.float32(wrap)
        light += toward
        np.maximum(light, 0, out=light)
        light *= 1 - np.float32(dark) * shadow
        light *= lamp
        light += other * np.float32(shot.lamp[2 - channel])
        light += sky * ambient
        light *= color[..., channel]
        light += gloss * lamp
        planes.append(light)
    return np.asarray(cv2.merge(planes))


def _shadow(depth: Array, shot: Shot) -> Array:
    """How much of the lamp is hidden by what stands between, 0..1: the depth map walked toward the lamp."""
    lx, ly, lz = shot.light
    flat = float(np.hypot(lx, ly))
    if flat < 0.15:
        return np.zeros_like(depth)
    full = depth
    depth = cv2.resize(full, (full.shape[1] // 2, full.shape[0] // 2), interpolation=cv2.INTER_AREA)  # shadows are soft
    hidden = np.full_like(depth, -9)
    size = (depth.shape[1], depth.shape[0])
    for distance in (0.06, 0.11, 0.17, 0.25, 0.36, 0.5):
        pixels = distance * shot.scale / 2  # of the halved map
        shift = np.array([[1, 0, lx / flat * pixels], [0, 1, -ly / flat * pixels]])
        moved = cv2.warpAffine(
            depth, shift, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        np.maximum(hidden, moved - np.float32(distance * max(lz, 0.2) / flat + 0.25 * distance), out=hidden)
    soft = cv2.GaussianBlur(np.clip((hidden - depth) * 14, 0, 1), (0, 0), 0.5 + 0.006 * shot.scale)
    return np.asarray(cv2.resize(soft, (full.shape[1], full.shape[0]), interpolation=cv2.INTER_LINEAR))


def _camera(image: Array, shot: Shot, rng: np.random.Generator) -> Array:
    """Exposure, white balance, saturation, blur, tone and noise: uint8[H, W, 3]."""
    gray = np.tile([0.25, 0.65, 0.1], (3, 1))
    colors = (gray + (np.eye(3) - gray) * shot.saturation) * np.array(shot.gain)
    image = cv2.transform(image, colors.astype(np.float32))
    if shot.blur > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), shot.blur)
    image = np.maximum(image, 0)
    image *= np.float32(1.2) / (1 + np.float32(0.25) * image)  # a shoulder for the highlights
    image = np.sqrt(image, out=image)
    image *= np.float32(255 * shot.contrast)
    grain = rng.standard_normal(image.shape[:2], dtype=np.float32) * np.float32(shot.noise)
    image += (grain + np.float32(127.5 * (1 - shot.contrast) + 0.5))[..., None]
    return np.asarray(np.clip(image, 0, 255, out=image).astype(np.uint8))
