// From five points of a face to its 112 x 112 crop: for Android and the JVM, without a library.
//
//     kotlinc Align.kt -include-runtime -d align.jar
//     java -jar align.jar x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 < photo.ppm > crop.ppm      # the matrix goes to stderr
//
// The points are the detector's: the eye on the picture's left, the other eye, the nose, the corners of the mouth.

import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.roundToInt
import kotlin.math.sqrt

val TEMPLATE = doubleArrayOf(38.2946, 51.6963, 73.5318, 51.5014, 56.0252, 71.7366, 41.5493, 92.3655, 70.7299, 92.2041)
const val SIZE = 112

class Image(val width: Int, val height: Int, val rgb: ByteArray = ByteArray(width * height * 3)) {
    fun at(x: Int, y: Int, c: Int): Int = // black beyond the edge
        if (x < 0 || y < 0 || x >= width || y >= height) 0 else rgb[(y * width + x) * 3 + c].toInt() and 255
}

/** x' = m0 x + m1 y + m2, y' = m3 x + m4 y + m5, photo -> crop: lays five points on the template by least squares. */
fun similarity(points: DoubleArray): DoubleArray {
    fun mean(of: DoubleArray, k: Int) = (0 until 5).sumOf { of[2 * it + k] } / 5
    val (px, py) = listOf(mean(points, 0), mean(points, 1))
    val (tx, ty) = listOf(mean(TEMPLATE, 0), mean(TEMPLATE, 1))
    var a = 0.0
    var b = 0.0
    var spread = 0.0
    for (i in 0 until 10 step 2) {
        val (sx, sy) = listOf(points[i] - px, points[i + 1] - py)
        val (u, v) = listOf(TEMPLATE[i] - tx, TEMPLATE[i + 1] - ty)
        a += sx * u + sy * v
        b += sx * v - sy * u
        spread += sx * sx + sy * sy
    }
    a /= spread
    b /= spread
    return doubleArrayOf(a, -b, tx - (a * px - b * py), b, a, ty - (b * px + a * py))
}

/** Means of whole blocks of the part of the photo that the crop sees, and the matrix of these means. */
fun averaged(photo: Image, m: DoubleArray, block: Int): Pair<Image, DoubleArray> {
    val (a, b) = listOf(m[0], m[3])
    val scale = a * a + b * b
    val corners = (0 until 4).map {
        val (u, v) = listOf(it % 2 * SIZE - m[2], it / 2 * SIZE - m[5])
        listOf((a * u + b * v) / scale, (a * v - b * u) / scale)
    }
    val sides = listOf(photo.width, photo.height)
    val start = List(2) { k -> (floor(corners.minOf { it[k] }).toInt() - block).coerceIn(0, sides[k] - 1) }
    val end = List(2) { k -> minOf(ceil(corners.maxOf { it[k] }).toInt() + block, sides[k]) }
    val means = Image(max(0, end[0] - start[0]) / block, max(0, end[1] - start[1]) / block)
    for (place in means.rgb.indices) {
        val x = start[0] + place / 3 % means.width * block
        val y = start[1] + place / 3 / means.width * block
        val sum = (0 until block * block).sumOf { photo.at(x + it % block, y + it / block, place % 3) }
        means.rgb[place] = (sum.toDouble() / (block * block)).roundToInt().toByte()
    }
    val (x, y) = listOf(start[0] + (block - 1) / 2.0, start[1] + (block - 1) / 2.0)
    return means to
        doubleArrayOf(a * block, -b * block, m[2] + a * x - b * y, b * block, a * block, m[5] + b * x + a * y)
}

/** The photo through the matrix: bilinear; a larger photo is first averaged down, so that every pixel counts. */
fun warp(photo: Image, m: DoubleArray): Image {
    val (a, b) = listOf(m[0], m[3])
    val scale = a * a + b * b
    val block = (1 / sqrt(scale) + 1e-9).toInt()
    if (block > 1) return averaged(photo, m, block).let { (means, matrix) -> warp(means, matrix) }
    val crop = Image(SIZE, SIZE)
    for (place in crop.rgb.indices) {
        val c = place % 3
        val u = place / 3 % SIZE - m[2]
        val v = place / 3 / SIZE - m[5]
        val x = (a * u + b * v) / scale
        val y = (a * v - b * u) / scale
        val left = floor(x).toInt()
        val top = floor(y).toInt()
        val fx = x - left
        val fy = y - top
        val upper = photo.at(left, top, c) * (1 - fx) + photo.at(left + 1, top, c) * fx
        val lower = photo.at(left, top + 1, c) * (1 - fx) + photo.at(left + 1, top + 1, c) * fx
        crop.rgb[place] = (upper * (1 - fy) + lower * fy).roundToInt().toByte()
    }
    return crop
}

fun main(points: Array<String>) {
    val input = System.`in`.readBytes()
    val header = String(input, 0, minOf(32, input.size), Charsets.ISO_8859_1).split(Regex("\\s+"), 5)
    val (width, height) = listOf(header[1].toInt(), header[2].toInt())
    val photo = Image(width, height, input.copyOfRange(input.size - width * height * 3, input.size))
    val matrix = similarity(points.map { it.toDouble() }.toDoubleArray())
    System.err.println(matrix.joinToString(" "))
    System.out.write("P6\n$SIZE $SIZE\n255\n".toByteArray())
    System.out.write(warp(photo, matrix).rgb)
    System.out.flush()
}
