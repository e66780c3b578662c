/* SPDX-License-Identifier: Apache-2.0
 *
 * mandelbrot.c: paints the Mandelbrot set into a PNG file, tile by tile.
 *
 * The third form of a function takes several values, as Pool.starmap passes them: they
 * travel as a msgpack array, and so does the result. Tiles in the black middle take a
 * hundred times as long as those at the rim; nobody has to balance them by hand. */
#include "progress.h"

#include <farpool.h>

#include <getopt.h>
#include <msgpack.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#define TILE 64 /* pixels, both ways */

struct picture {
    int64_t width, height, iterations;
    uint8_t *pixels; /* red, green, blue */
};

/* ------------------------------------------------- what runs in the processes */

static void paint(double re, double im, int64_t iterations, uint8_t *rgb)
{
    double x = 0, y = 0, xx = 0, yy = 0;
    int64_t n = 0;
    for (; n < iterations && xx + yy < 16; n++) {
        y = 2 * x * y + im;
        x = xx - yy + re;
        xx = x * x;
        yy = y * y;
    }
    /* Bernstein polynomials: from dark blue over gold to white. */
    const double t = n == iterations ? 0 : (double)(n % 256) / 256, s = 1 - t;
    rgb[0] = (uint8_t)(255 * 9 * s * t * t * t);
    rgb[1] = (uint8_t)(255 * 15 * s * s * t * t);
    rgb[2] = (uint8_t)(255 * 8.5 * s * s * s * t);
}

/* Pixels [x, x + width) x [y, y + height) of a picture `span` pixels wide. */
static int tile(farpool_task *task, const struct msgpack_object *arguments,
                struct msgpack_packer *result)
{
    int64_t x, y, width, height, span, rows, iterations;
    if (farpool_unpack(task, arguments, "iiiiiii", &x, &y, &width, &height, &span, &rows,
                       &iterations))
        return -1; /* farpool_unpack has said why */
    uint8_t pixels[3 * TILE * TILE];
    if (width < 1 || width > TILE || height < 1 || height > TILE || span < 1)
        return farpool_fail(task, "a tile of %lld x %lld", (long long)width,
                            (long long)height);
    const double step = 3.0 / (double)span; /* the picture is 3 wide, around -0.65 */
    uint8_t *pixel = pixels;
    for (int64_t j = y; j < y + height; j++) {
        for (int64_t i = x; i < x + width; i++, pixel += 3)
            paint(-2.15 + (double)i * step, ((double)j - (double)rows / 2) * step,
                  iterations, pixel);
        farpool_task_progress(task, (uint64_t)(j - y + 1), (uint64_t)height);
    }
    const size_t size = (size_t)(pixel - pixels);
    msgpack_pack_bin(result, size);
    msgpack_pack_bin_body(result, pixels, size);
    return 0;
}
FARPOOL_ARGS_FUNCTION(tile)

/* ---------------------------------------------------------- what runs in main */

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static farpool_list *list_tiles(const struct picture *picture)
{
    farpool_list *list = farpool_list_create();
    for (int64_t y = 0; list && y < picture->height; y += TILE)
        for (int64_t x = 0; x < picture->width; x += TILE)
            if (farpool_list_pack(list, "iiiiiii", x, y,
                                  smaller(TILE, picture->width - x),
                                  smaller(TILE, picture->height - y), picture->width,
                                  picture->height, picture->iterations)) {
                farpool_list_free(list);
                return NULL;
            }
    return list;
}

/* Copies one task's result to its place. */
static bool place_tile(struct picture *picture, farpool_job *job, uint64_t index)
{
    const int64_t columns = (picture->width + TILE - 1) / TILE;
    const int64_t x = (int64_t)index % columns * TILE,
                  y = (int64_t)index / columns * TILE;
    const int64_t width = smaller(TILE, picture->width - x);
    const int64_t height = smaller(TILE, picture->height - y);
    size_t size = 0, offset = 0;
    const char *packed = farpool_job_output(job, index, &size);
    msgpack_unpacked value;
    msgpack_unpacked_init(&value);
    const bool good =
        packed &&
        msgpack_unpack_next(&value, packed, size, &offset) == MSGPACK_UNPACK_SUCCESS &&
        value.data.type == MSGPACK_OBJECT_BIN &&
        value.data.via.bin.size == (uint32_t)(3 * width * height);
    for (int64_t row = 0; good && row < height; row++)
        memcpy(picture->pixels + 3 * ((y + row) * picture->width + x),
               value.data.via.bin.ptr + 3 * row * width, (size_t)(3 * width));
    msgpack_unpacked_destroy(&value);
    return good;
}

static int paint_all(farpool_pool *pool, struct picture *picture, bool progress_asked,
                     double *ret_seconds, farpool_error *error)
{
    farpool_list *tiles = list_tiles(picture);
    if (!tiles)
        return FARPOOL_ENOMEM;
    struct progress progress = progress_begin("tiles", progress_asked);
    farpool_job *job = farpool_starmap_async(pool, FARPOOL_REF(tile), tiles, NULL, error);
    const uint64_t count = farpool_list_count(tiles);
    farpool_list_free(tiles);
    if (!job)
        return error->code;
    while (farpool_job_wait(job, 100) == FARPOOL_ETIMEDOUT) {
        farpool_progress state;
        if (farpool_job_progress(job, &state) == 0)
            progress_show(&progress, (double)state.done + state.running_share, count);
    }
    *ret_seconds = progress_end(&progress);
    int code = farpool_job_get(job, FARPOOL_FOREVER, error);
    for (uint64_t i = 0; i < count && !code; i++)
        if (!place_tile(picture, job, i)) {
            snprintf(error->text, sizeof error->text, "tile %llu came back damaged",
                     (unsigned long long)i);
            code = FARPOOL_EPROTOCOL;
        }
    farpool_job_free(job);
    return code;
}

static bool write_png(const struct picture *picture, const char *path)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)picture->width,
                       .height = (png_uint_32)picture->height,
                       .format = PNG_FORMAT_RGB};
    if (png_image_write_to_file(&image, path, 0, picture->pixels, 0, NULL))
        return true;
    fprintf(stderr, "mandelbrot: %s: %s\n", path, image.message);
    return false;
}

/* The same picture without a pool. */
static bool is_the_same(const struct picture *picture)
{
    const double step = 3.0 / (double)picture->width;
    for (int64_t y = 0; y < picture->height; y++)
        for (int64_t x = 0; x < picture->width; x++) {
            uint8_t rgb[3];
            paint(-2.15 + (double)x * step,
                  ((double)y - (double)picture->height / 2) * step, picture->iterations,
                  rgb);
            if (memcmp(rgb, picture->pixels + 3 * (y * picture->width + x), 3) != 0)
                return false;
        }
    return true;
}

struct settings {
    const char *coordinator, *output;
    farpool_pool_options pool;
    bool check, progress;
};

static int run(const struct settings *settings, struct picture *picture)
{
    farpool_error error = {.code = 0};
    double seconds = 0;
    farpool_pool *pool = farpool_open(settings->coordinator, &settings->pool, &error);
    if (!pool || paint_all(pool, picture, settings->progress, &seconds, &error)) {
        fprintf(stderr, "mandelbrot: %s\n", error.text);
        farpool_pool_free(pool);
        return 1;
    }
    farpool_pool_info info = {.nodes = 0};
    farpool_pool_get_info(pool, &info, NULL);
    farpool_close(pool, NULL);
    farpool_pool_free(pool);
    if (!write_png(picture, settings->output))
        return 1;
    char processes[64], nodes[64];
    printf("%s: %lld x %lld in %.2f s, %s on %s\n", settings->output,
           (long long)picture->width, (long long)picture->height, seconds,
           progress_count(info.processes, "process", "processes", processes),
           progress_count(info.nodes, "node", "nodes", nodes));
    if (!settings->check)
        return 0;
    const bool same = is_the_same(picture);
    printf("painted again without a pool: %s\n", same ? "the same" : "NOT THE SAME");
    return same ? 0 : 1;
}

static int usage(void)
{
    fputs("usage: mandelbrot [--size PIXELS] [--iterations N] [--output FILE.png]\n"
          "                  [--coordinator ADDRESS] [--processes N] [--progress] "
          "[--check]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    farpool_init(&argc, &argv);
    static const struct option options[] = {{"size", required_argument, NULL, 's'},
                                            {"iterations", required_argument, NULL, 'i'},
                                            {"output", required_argument, NULL, 'o'},
                                            {"coordinator", required_argument, NULL, 'c'},
                                            {"processes", required_argument, NULL, 'n'},
                                            {"progress", no_argument, NULL, 'p'},
                                            {"check", no_argument, NULL, 'k'},
                                            {NULL, 0, NULL, 0}};
    struct settings settings = {.output = "mandelbrot.png", .pool = FARPOOL_POOL_OPTIONS};
    struct picture picture = {.width = 1800, .iterations = 1000};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            picture.width = atoll(optarg);
            break;
        case 'i':
            picture.iterations = atoll(optarg);
            break;
        case 'o':
            settings.output = optarg;
            break;
        case 'c':
            settings.coordinator = optarg;
            break;
        case 'n':
            settings.pool.processes = atoll(optarg);
            break;
        case 'p':
            settings.progress = true;
            break;
        case 'k':
            settings.check = true;
            break;
        default:
            return usage();
        }
    }
    if (picture.width < 3 || picture.width > 30000 || picture.iterations < 1 ||
        optind < argc)
        return usage();
    picture.height = picture.width * 2 / 3;
    picture.pixels = malloc((size_t)(3 * picture.width * picture.height));
    if (!picture.pixels)
        return 1;
    const int result = run(&settings, &picture);
    free(picture.pixels);
    return result;
}
