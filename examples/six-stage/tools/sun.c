/* sun CITIES SUN.TBL: when the sun rises and sets in every city on every day
   of a leap year, found by looking once a minute. */
#include "lib/astro.h"
#include "lib/records.h"
#include "lib/table.h"

#include <stdio.h>
#include <string.h>

enum { DAYS = 366, MAX_CITIES = 256 };

/* Refraction at the horizon, and half of the sun's disc. */
static const double horizon = -0.833;

static void look(struct sun_record *r, double noon, double latitude, double longitude) {
    int minutes_up = 0;
    double before = sun_altitude(noon - 0.5 - 1.0 / 1440, latitude, longitude);
    r->rise = r->set = 0;
    for (int minute = 0; minute < 1440; minute++) {
        double now = sun_altitude(noon - 0.5 + minute / 1440.0, latitude, longitude);
        if (before < horizon && now >= horizon) r->rise = minute;
        if (before >= horizon && now < horizon) r->set = minute;
        minutes_up += now >= horizon;
        before = now;
    }
    if (minutes_up == 1440) r->rise = r->set = SUN_ALWAYS_UP;
    if (minutes_up == 0) r->rise = r->set = SUN_NEVER_UP;
}

int main(int argc, char **argv) {
    static struct sun_record records[MAX_CITIES * DAYS];
    struct table t = {0, sizeof *records, records};
    char city[24];
    double latitude, longitude;
    FILE *f = argc == 3 ? fopen(argv[1], "r") : NULL;
    if (!f) {
        fprintf(stderr, "usage: sun CITIES SUN.TBL\n");
        return 2;
    }
    while (t.count < MAX_CITIES * DAYS && fscanf(f, "%23s %lf %lf", city, &latitude, &longitude) == 3) {
        for (int day = 0; day < DAYS; day++, t.count++) {
            strcpy(records[t.count].city, city);
            look(&records[t.count], astro_days(2024, 1, 1) + day, latitude, longitude);
        }
    }
    fclose(f);
    table_write(argv[2], &t);
    printf("sun: %u days in %u cities\n", t.count, t.count / DAYS);
    return 0;
}
