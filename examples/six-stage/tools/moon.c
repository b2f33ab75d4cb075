/* moon FROM TO MOON.TBL: every quarter of the moon between two years, found by
   walking in steps of a quarter of an hour and halving the step that has one. */
#include "lib/astro.h"
#include "lib/records.h"
#include "lib/table.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_QUARTERS = 16384 };

static int quarter(double days) { return (int)(moon_elongation(days) / 90) & 3; }

int main(int argc, char **argv) {
    static struct moon_record records[MAX_QUARTERS];
    struct table t = {0, sizeof *records, records};
    if (argc != 4) {
        fprintf(stderr, "usage: moon FROM TO MOON.TBL\n");
        return 2;
    }
    int from = atoi(argv[1]), to = atoi(argv[2]);
    const double step = 1.0 / 96;
    for (int year = from; year < to; year++) {
        double end = astro_days(year + 1, 1, 1);
        for (double d = astro_days(year, 1, 1); d < end && t.count < MAX_QUARTERS; d += step) {
            int is = quarter(d + step);
            if (quarter(d) == is) continue;
            double low = d, high = d + step;
            while (high - low > 1e-6)
                if (quarter((low + high) / 2) == is)
                    high = (low + high) / 2;
                else
                    low = (low + high) / 2;
            records[t.count++] = (struct moon_record){.days = high, .phase = is};
        }
    }
    table_write(argv[3], &t);
    printf("moon: %u quarters in %d years\n", t.count, to - from);
    return 0;
}
