"""Slow, obvious twins of the fast functions: written from the definition, sharing no code with facekd."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

NOTHING = float("inf")  # a threshold that accepts nothing, where no score is +inf


def counts_at(values, same, threshold):
    """(accepted genuine, accepted impostor) at one threshold, by looking at each pair."""
    genuine = impostor = 0
    for value, is_same in zip(values, same, strict=True):
        if value >= threshold and value != float("-inf"):
            if is_same:
                genuine += 1
            else:
                impostor += 1
    return genuine, impostor


def thresholds_of(values):
    return sorted({float(v) for v in values if v != float("-inf")}, reverse=True)


def tar_at_far(values, same, far):
    """(tar, far, threshold or None) as Fractions: every score is tried as threshold. `far` is a decimal string."""
    n_genuine = sum(map(bool, same))
    n_impostor = len(same) - n_genuine
    best = (Fraction(0), Fraction(0), None)
    for threshold in thresholds_of(values):
        genuine, impostor = counts_at(values, same, threshold)
        if Fraction(impostor, n_impostor) <= Fraction(far):
            best = (Fraction(genuine, n_genuine), Fraction(impostor, n_impostor), threshold)
    return best


def auc(values, same):
    """By comparing each genuine pair with each impostor pair."""
    genuine = [v for v, s in zip(values, same, strict=True) if s]
    impostor = [v for v, s in zip(values, same, strict=True) if not s]
    wins = sum(Fraction(1) if g > i else Fraction(1, 2) if g == i else 0 for g in genuine for i in impostor)
    return wins / (len(genuine) * len(impostor))


def eer(values, same):
    """By walking the ROC's lines in exact fractions until FAR reaches FNMR."""
    n_genuine = sum(map(bool, same))
    n_impostor = len(same) - n_genuine
    points = [(Fraction(0), Fraction(1))]  # (FAR, FNMR)
    for threshold in thresholds_of(values):
        genuine, impostor = counts_at(values, same, threshold)
        points.append((Fraction(impostor, n_impostor), 1 - Fraction(genuine, n_genuine)))
    points.append((Fraction(1), Fraction(0)))
    for (far0, fnmr0), (far1, fnmr1) in itertools.pairwise(points):
        if far1 >= fnmr1:
            # far0 + s (far1 - far0) = fnmr0 + s (fnmr1 - fnmr0)
            s = (fnmr0 - far0) / ((far1 - far0) - (fnmr1 - fnmr0))
            return far0 + s * (far1 - far0)
    raise AssertionError("the ROC ends at FAR 1, FNMR 0")


def fold_accuracy(values, same, fold):
    """[(accuracy, threshold)] for each fold, thresholds tried one by one from the highest."""
    results = []
    for label in sorted(set(fold)):
        others = [(v, s) for v, s, f in zip(values, same, fold, strict=True) if f != label]
        mine = [(v, s) for v, s, f in zip(values, same, fold, strict=True) if f == label]
        best_right, best_threshold = sum(not s for _, s in others), None
        for threshold in thresholds_of([v for v, _ in others]):
            right = sum((v >= threshold) == s for v, s in others)
            if right > best_right:
                best_right, best_threshold = right, threshold
        right = sum((best_threshold is not None and v >= best_threshold) == s for v, s in mine)
        results.append((right / len(mine), best_threshold))
    return results


def wilson_by_search(hits, n, z):
    """The proportions p at which |hits / n - p| is z standard errors of p: bisection on the score test itself."""

    def inside(p):
        return (hits / n - p) ** 2 <= z * z * p * (1 - p) / n

    def edge(inner, outer):
        for _ in range(200):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if inside(middle) else (inner, middle)
        return inner

    return edge(hits / n, 0.0), edge(hits / n, 1.0)


def repeat_by_person(values, same, left, right, times):
    """The pairs of a list in which person p occurs times[p] times, written out one by one."""
    out = []
    for value, is_same, a, b in zip(values, same, left, right, strict=True):
        copies = times[a] if is_same else times[a] * times[b]
        out += [(value, is_same)] * int(copies)
    return [v for v, _ in out], [s for _, s in out]


def pairs_of(vectors, persons, failed_persons=()):
    """(scores, same) of all unordered pairs; a failed photo scores -inf with each other photo."""
    photos = [(v, p) for v, p in zip(vectors.tolist(), persons, strict=True)] + [(None, p) for p in failed_persons]
    values, same = [], []
    for (v, p), (w, q) in itertools.combinations(photos, 2):
        failed = v is None or w is None
        values.append(float("-inf") if failed else sum(x * y for x, y in zip(v, w, strict=True)))
        same.append(bool(p == q))
    return values, same


def margin_loss(kind, cosines, labels, margin, scale, quality=None):
    """Mean cross-entropy of a margin head, crop by crop, its angle taken by acos; ordinary angles only."""
    losses = []
    for i, (row, label) in enumerate(zip(cosines, labels, strict=True)):
        if label < 0:
            continue
        theta = math.acos(row[label])
        if kind == "normsoftmax":
            own = row[label]
        elif kind == "cosface":
            own = math.cos(theta) - margin
        elif kind == "arcface":
            over = theta + margin > math.pi
            own = math.cos(theta) - margin * math.sin(margin) if over else math.cos(theta + margin)
        elif kind == "adaface":
            turned = min(max(theta - margin * quality[i], 0.0), math.pi)
            own = math.cos(turned) - (margin + margin * quality[i])
        logits = [scale * (own if j == label else c) for j, c in enumerate(row)]
        losses.append(-logits[label] + log_sum_exp(logits))
    return sum(losses) / len(losses)


def log_sum_exp(values):
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def softmax(row, temperature=1.0):
    total = log_sum_exp([v / temperature for v in row])
    return [math.exp(v / temperature - total) for v in row]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def decoupled(students, teachers, labels, temperature, alpha, beta):
    """DKD, from the probabilities of its definition."""
    losses = []
    for student, teacher, own in zip(students, teachers, labels, strict=True):
        if own < 0:
            continue
        q, p = softmax(student, temperature), softmax(teacher, temperature)
        target = kl([p[own], 1 - p[own]], [q[own], 1 - q[own]])
        among_p = [v / (1 - p[own]) for j, v in enumerate(p) if j != own]
        among_q = [v / (1 - q[own]) for j, v in enumerate(q) if j != own]
        losses.append(temperature**2 * (alpha * target + beta * kl(among_p, among_q)))
    return sum(losses) / len(losses)


def grouped(students, teachers, temperature, mass):
    """GKD: classes are added, likeliest first, until they hold `mass`; then primary and binary KL."""
    losses = []
    for student, teacher in zip(students, teachers, strict=True):
        q, p = softmax(student, temperature), softmax(teacher, temperature)
        primary = []
        for j in sorted(range(len(p)), key=lambda j: -p[j]):
            if sum(p[i] for i in primary) < mass:
                primary.append(j)
        held_p, held_q = sum(p[j] for j in primary), sum(q[j] for j in primary)
        within = kl([p[j] / held_p for j in primary], [q[j] / held_q for j in primary])
        whole = len(primary) == len(p)
        binary = 0.0 if whole else kl([held_p, 1 - held_p], [held_q, 1 - held_q])
        losses.append(temperature**2 * (held_p * within + binary))
    return sum(losses) / len(losses)


def unit(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def huber(x, delta=1.0):
    return x * x / 2 if abs(x) <= delta else delta * (abs(x) - delta / 2)


def rkd_distance(students, teachers):
    def distances(vectors):
        found = [math.dist(unit(a), unit(b)) for a, b in itertools.combinations(vectors, 2)]
        return [d / (sum(found) / len(found)) for d in found]

    parts = [huber(s - t) for s, t in zip(distances(students), distances(teachers), strict=True)]
    return sum(parts) / len(parts)


def rkd_angle(students, teachers):
    def cosines(vectors):
        points = [unit(v) for v in vectors]
        found = []
        for i, j, k in itertools.permutations(range(len(points)), 3):
            left = unit([a - b for a, b in zip(points[i], points[j], strict=True)])
            right = unit([a - b for a, b in zip(points[k], points[j], strict=True)])
            found.append(dot(left, right))
        return found

    parts = [huber(s - t) for s, t in zip(cosines(students), cosines(teachers), strict=True)]
    return sum(parts) / len(parts)


def similarity_preserving(students, teachers):
    def rows(vectors):
        points = [unit(v) for v in vectors]
        return [unit([dot(a, b) for b in points]) for a in points]

    pairs = zip(rows(students), rows(teachers), strict=True)
    return sum((s - t) ** 2 for a, b in pairs for s, t in zip(a, b, strict=True)) / len(students) ** 2


def evaluation_oriented(students, teachers, labels, student_thresholds, teacher_thresholds, temperature, hardest):
    """EKD, pair by pair."""

    def passed(cosine, thresholds):
        return sum(1 / (1 + math.exp(-(cosine - t) / temperature)) for t in thresholds)

    positives, negatives = [], []
    for i, j in itertools.combinations(range(len(labels)), 2):
        if labels[i] < 0 or labels[j] < 0:
            continue
        s, t = dot(unit(students[i]), unit(students[j])), dot(unit(teachers[i]), unit(teachers[j]))
        square = (passed(s, student_thresholds) - passed(t, teacher_thresholds)) ** 2
        (positives if labels[i] == labels[j] else negatives).append((s, square))
    hard = sorted(negatives, reverse=True)[:hardest]
    loss = sum(square for _, square in positives) / len(positives) if positives else 0.0
    return loss + (sum(square for _, square in hard) / len(hard) / 2 if hard else 0.0)


def moved_centers(centers, students, teachers, labels):
    """AdaDistill's centers after a batch: each crop's own move, averaged over an identity's crops."""
    moves = {}
    for student, teacher, label in zip(students, teachers, labels, strict=True):
        if label < 0:
            continue
        seen, old = unit(teacher), centers[label]
        near = dot(unit(old), seen) if any(old) else 0.0
        alpha = min(max(dot(unit(student), seen) * max(near, 0.0), 0.0), 1.0)
        moves.setdefault(label, []).append([alpha * w + (1 - alpha) * t for w, t in zip(old, seen, strict=True)])
    return {label: [sum(column) / len(column) for column in zip(*rows, strict=True)] for label, rows in moves.items()}


def harmonic(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)


def pairwise_agreement(clusters, persons):
    """(precision, recall, F) as Fractions, by looking at each pair of photos; None where there is none to look at."""
    found = [
        (clusters[i] == clusters[j], persons[i] == persons[j])
        for i, j in itertools.combinations(range(len(clusters)), 2)
    ]
    right = sum(together and same for together, same in found)
    together, same = sum(together for together, _ in found), sum(same for _, same in found)
    precision, recall = (Fraction(right, n) if n else None for n in (together, same))
    if precision is None or recall is None:
        return precision, recall, Fraction(0) if together + same else None
    return precision, recall, harmonic(precision, recall)


def bcubed_agreement(clusters, persons):
    """(precision, recall, F) as Fractions: for each photo, those in its cluster and those of its person, listed."""
    n = len(clusters)
    precision = recall = Fraction(0)
    for i in range(n):
        own = [j for j in range(n) if clusters[j] == clusters[i]]
        same = [j for j in range(n) if persons[j] == persons[i]]
        both = len(set(own) & set(same))
        precision += Fraction(both, len(own) * n)
        recall += Fraction(both, len(same) * n)
    return precision, recall, harmonic(precision, recall)
