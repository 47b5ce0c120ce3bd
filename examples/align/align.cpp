// From five points of a face to its 112 x 112 crop, without a library.
//
//     g++ -O2 -std=c++17 align.cpp -o align
//     ./align x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 < photo.ppm > crop.ppm      # the matrix goes to stderr
//
// The points are the detector's: the eye on the picture's left, the other eye, the nose, the corners of the mouth.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

using Points = std::array<std::array<double, 2>, 5>;
using Matrix = std::array<double, 6>;  // x' = m0 x + m1 y + m2, y' = m3 x + m4 y + m5

constexpr Points TEMPLATE{{{38.2946, 51.6963}, {73.5318, 51.5014}, {56.0252, 71.7366}, {41.5493, 92.3655}, {70.7299, 92.2041}}};
constexpr int SIZE = 112;

struct Image {
    int width, height;
    std::vector<uint8_t> rgb;
    double at(int x, int y, int c) const {  // black beyond the edge
        return x < 0 || y < 0 || x >= width || y >= height ? 0 : rgb[(size_t(y) * width + x) * 3 + c];
    }
};

// Photo -> crop: turn, scale and shift that lay five points on the template by least squares.
Matrix similarity(const Points& points) {
    double px = 0, py = 0, tx = 0, ty = 0, a = 0, b = 0, spread = 0;
    for (int i = 0; i < 5; i++) px += points[i][0] / 5, py += points[i][1] / 5, tx += TEMPLATE[i][0] / 5, ty += TEMPLATE[i][1] / 5;
    for (int i = 0; i < 5; i++) {
        const double sx = points[i][0] - px, sy = points[i][1] - py, u = TEMPLATE[i][0] - tx, v = TEMPLATE[i][1] - ty;
        a += sx * u + sy * v, b += sx * v - sy * u, spread += sx * sx + sy * sy;
    }
    a /= spread, b /= spread;
    return {a, -b, tx - (a * px - b * py), b, a, ty - (b * px + a * py)};
}

// Means of whole blocks of the part of the photo that the crop sees; the matrix becomes that of the means.
Image averaged(const Image& photo, Matrix& m, int block) {
    const double a = m[0], b = m[3], scale = a * a + b * b;
    double low[2] = {1e18, 1e18}, high[2] = {-1e18, -1e18};
    for (int corner = 0; corner < 4; corner++) {
        const double u = corner % 2 * SIZE - m[2], v = corner / 2 * SIZE - m[5];
        const double at[2] = {(a * u + b * v) / scale, (a * v - b * u) / scale};
        for (int k = 0; k < 2; k++) low[k] = std::min(low[k], at[k]), high[k] = std::max(high[k], at[k]);
    }
    const int sides[2] = {photo.width, photo.height};
    int start[2], count[2];
    for (int k = 0; k < 2; k++) {
        start[k] = std::clamp(int(std::floor(low[k])) - block, 0, sides[k] - 1);
        count[k] = std::max(0, std::min(int(std::ceil(high[k])) + block, sides[k]) - start[k]) / block;
    }
    Image means{count[0], count[1], std::vector<uint8_t>(size_t(count[0]) * count[1] * 3)};
    for (size_t place = 0; place < means.rgb.size(); place++) {
        const int c = place % 3, x = start[0] + place / 3 % count[0] * block, y = start[1] + place / 3 / count[0] * block;
        double sum = 0;
        for (int i = 0; i < block * block; i++) sum += photo.at(x + i % block, y + i / block, c);
        means.rgb[place] = uint8_t(std::lround(sum / (block * block)));
    }
    const double x = start[0] + (block - 1) / 2.0, y = start[1] + (block - 1) / 2.0;
    m = {a * block, -b * block, m[2] + a * x - b * y, b * block, a * block, m[5] + b * x + a * y};
    return means;
}

// The photo through the matrix: bilinear; a photo larger than the crop is first averaged down, so that every pixel counts.
Image warp(const Image& photo, Matrix m) {
    const int block = int(1 / std::hypot(m[0], m[3]) + 1e-9);
    if (block > 1) return warp(averaged(photo, m, block), m);
    const double a = m[0], b = m[3], scale = a * a + b * b;
    Image crop{SIZE, SIZE, std::vector<uint8_t>(SIZE * SIZE * 3)};
    for (int place = 0; place < SIZE * SIZE * 3; place++) {
        const int c = place % 3;
        const double u = place / 3 % SIZE - m[2], v = place / 3 / SIZE - m[5];
        const double x = (a * u + b * v) / scale, y = (a * v - b * u) / scale;
        const int left = int(std::floor(x)), top = int(std::floor(y));
        const double fx = x - left, fy = y - top;
        crop.rgb[place] = uint8_t(std::lround(
            (photo.at(left, top, c) * (1 - fx) + photo.at(left + 1, top, c) * fx) * (1 - fy)
            + (photo.at(left, top + 1, c) * (1 - fx) + photo.at(left + 1, top + 1, c) * fx) * fy));
    }
    return crop;
}

int main(int argc, char** argv) {
    Image photo{};
    if (argc != 11 || std::scanf("P6 %d %d 255%*c", &photo.width, &photo.height) != 2) {
        std::fputs("usage: align x1 y1 ... x5 y5 < photo.ppm > crop.ppm\n", stderr);
        return 2;
    }
    photo.rgb.resize(size_t(photo.width) * photo.height * 3);
    if (std::fread(photo.rgb.data(), 1, photo.rgb.size(), stdin) != photo.rgb.size()) return 2;
    Points points;
    for (int i = 0; i < 10; i++) points[i / 2][i % 2] = std::atof(argv[i + 1]);
    const Matrix matrix = similarity(points);
    for (double value : matrix) std::fprintf(stderr, "%.17g ", value);
    const Image crop = warp(photo, matrix);
    std::printf("P6\n%d %d\n255\n", SIZE, SIZE);
    std::fwrite(crop.rgb.data(), 1, crop.rgb.size(), stdout);
}
