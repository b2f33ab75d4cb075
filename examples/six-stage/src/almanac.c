/* almanac answers from tables that were computed when its image was built. */
#include "lib/astro.h"
#include "lib/records.h"
#include "lib/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char usage[] = "usage: almanac cities\n"
                            "       almanac sun CITY [YYYY-MM-DD]\n"
                            "       almanac moon [YYYY-MM-DD]\n"
                            "All times are UTC; without a date it is today.\n";

static const char *phases[] = {"new moon", "first quarter", "full moon", "last quarter"};

static const char *where(const char *name) {
    static char path[4096];
    const char *dir = getenv("ALMANAC_TABLES");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "/usr/share/almanac", name);
    return path;
}

static double noon(const char *date, int *year, int *month, int *day) {
    if (!date) {
        time_t now = time(NULL);
        struct tm *tm = gmtime(&now);
        *year = tm->tm_year + 1900, *month = tm->tm_mon + 1, *day = tm->tm_mday;
    } else if (sscanf(date, "%4d-%2d-%2d", year, month, day) != 3 || *month < 1 || *month > 12 || *day < 1 || *day > 31) {
        fprintf(stderr, "almanac: %s is no date: YYYY-MM-DD\n", date);
        exit(2);
    }
    return astro_days(*year, *month, *day);
}

static int sun(const char *city, const char *date) {
    struct table t = table_read(where("sun.tbl"), sizeof(struct sun_record));
    const struct sun_record *r = t.records;
    int year, month, day;
    noon(date, &year, &month, &day);
    int of_year = (int)(astro_days(2024, month, day) - astro_days(2024, 1, 1));
    for (unsigned i = 0; i + 366 <= t.count; i += 366) {
        if (strcasecmp(r[i].city, city)) continue;
        r += i + of_year;
        if (r->rise == SUN_ALWAYS_UP || r->rise == SUN_NEVER_UP)
            printf("%s: the sun %s\n", r->city, r->rise == SUN_ALWAYS_UP ? "does not set" : "does not rise");
        else
            printf("%s: sunrise %02d:%02d, sunset %02d:%02d\n", r->city, r->rise / 60, r->rise % 60, r->set / 60, r->set % 60);
        return 0;
    }
    fprintf(stderr, "almanac: no city called %s: see almanac cities\n", city);
    return 1;
}

static int moon(const char *date) {
    struct table t = table_read(where("moon.tbl"), sizeof(struct moon_record));
    const struct moon_record *r = t.records;
    int year, month, day, minute, shown = 0;
    double from = noon(date, &year, &month, &day) - 0.5;
    for (unsigned i = 0; i < t.count && shown < 4; i++) {
        if (r[i].days < from) continue;
        astro_date(r[i].days, &year, &month, &day, &minute);
        printf("%04d-%02d-%02d %02d:%02d %s\n", year, month, day, minute / 60, minute % 60, phases[r[i].phase]);
        shown++;
    }
    return shown ? 0 : 1;
}

static int cities(void) {
    struct table t = table_read(where("sun.tbl"), sizeof(struct sun_record));
    const struct sun_record *r = t.records;
    for (unsigned i = 0; i < t.count; i += 366) puts(r[i].city);
    return 0;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    if (!strcmp(verb, "sun") && argc > 2) return sun(argv[2], argc > 3 ? argv[3] : NULL);
    if (!strcmp(verb, "moon")) return moon(argc > 2 ? argv[2] : NULL);
    if (!strcmp(verb, "cities")) return cities();
    fputs(usage, argc > 1 && strcmp(verb, "help") ? stderr : stdout);
    return argc > 1 && strcmp(verb, "help") ? 2 : 0;
}
