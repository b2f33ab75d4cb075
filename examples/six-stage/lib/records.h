/* What stands in sun.tbl and moon.tbl. */
#ifndef RECORDS_H
#define RECORDS_H

enum { SUN_ALWAYS_UP = -1, SUN_NEVER_UP = -2 };

/* One a city and day of a leap year, in that order; minutes of the day, UTC. */
struct sun_record {
    char city[24];
    short rise, set;
};

/* One a quarter, in order of time. */
struct moon_record {
    double days; /* since J2000 */
    int phase;   /* 0 new, 1 first quarter, 2 full, 3 last quarter */
    int unused;
};

#endif
