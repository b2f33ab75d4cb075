/* Low-precision formulae of the Astronomical Almanac for the sun, and the
   largest periodic terms of the lunar longitude. */
#include "lib/astro.h"

#include <math.h>

#define RAD (3.14159265358979323846 / 180)

static double sind(double a) { return sin(a * RAD); }
static double cosd(double a) { return cos(a * RAD); }

static double turn(double a) {
    a = fmod(a, 360);
    return a < 0 ? a + 360 : a;
}

double astro_days(int year, int month, int day) {
    int y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 12 : month;
    return 365.0 * y + y / 4 - y / 100 + y / 400 + (153 * m - 457) / 5 + day - 730426;
}

void astro_date(double days, int *year, int *month, int *day, int *minute) {
    double midnight = floor(days + 0.5);
    *minute = (int)((days + 0.5 - midnight) * 1440 + 0.5);
    *year = 2000 + (int)(midnight / 365.2425) - 1;
    while (astro_days(*year + 1, 1, 1) <= midnight) ++*year;
    *month = 1;
    while (*month < 12 && astro_days(*year, *month + 1, 1) <= midnight) ++*month;
    *day = 1 + (int)(midnight - astro_days(*year, *month, 1));
}

double sun_longitude(double d) {
    double g = 357.529 + 0.98560028 * d;
    return turn(280.459 + 0.98564736 * d + 1.915 * sind(g) + 0.020 * sind(2 * g));
}

double sun_altitude(double d, double latitude, double longitude_east) {
    double l = sun_longitude(d), tilt = 23.439 - 0.00000036 * d;
    double declination = asin(sind(tilt) * sind(l)) / RAD;
    double ascension = atan2(cosd(tilt) * sind(l), cosd(l)) / RAD;
    double sidereal = 280.46061837 + 360.98564736629 * d + longitude_east;
    double hour = sidereal - ascension;
    return asin(sind(latitude) * sind(declination) + cosd(latitude) * cosd(declination) * cosd(hour)) / RAD;
}

/* Multiples of elongation, solar anomaly, lunar anomaly and node distance, and
   the amplitude in degrees. */
static const struct { int d, m, l, f; double amplitude; } terms[] = {
    {0, 0, 1, 0, 6.288774}, {2, 0, -1, 0, 1.274027}, {2, 0, 0, 0, 0.658314}, {0, 0, 2, 0, 0.213618},
    {0, 1, 0, 0, -0.185116}, {0, 0, 0, 2, -0.114332}, {2, 0, -2, 0, 0.058793}, {2, -1, -1, 0, 0.057066},
    {2, 0, 1, 0, 0.053322}, {2, -1, 0, 0, 0.045758}, {0, 1, -1, 0, -0.040923}, {1, 0, 0, 0, -0.034720},
    {0, 1, 1, 0, -0.030383}, {2, 0, 0, -2, 0.015327}, {0, 0, 1, 2, -0.012528}, {0, 0, 1, -2, 0.010980},
    {4, 0, -1, 0, 0.010675}, {0, 0, 3, 0, 0.010034}, {4, 0, -2, 0, 0.008548}, {2, 1, -1, 0, -0.007888},
    {2, 1, 0, 0, -0.006766}, {1, 0, -1, 0, -0.005163}, {1, 1, 0, 0, 0.004987}, {2, -1, 1, 0, 0.004036},
};

double moon_longitude(double days) {
    double t = days / 36525, sum = 218.3164477 + 481267.88123421 * t;
    double d = 297.8501921 + 445267.1114034 * t, m = 357.5291092 + 35999.0502909 * t;
    double l = 134.9633964 + 477198.8675055 * t, f = 93.2720950 + 483202.0175233 * t;
    for (unsigned i = 0; i < sizeof terms / sizeof *terms; i++)
        sum += terms[i].amplitude * sind(terms[i].d * d + terms[i].m * m + terms[i].l * l + terms[i].f * f);
    return turn(sum);
}

double moon_elongation(double days) { return turn(moon_longitude(days) - sun_longitude(days)); }
