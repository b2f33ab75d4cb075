/* Positions of sun and moon, good to a minute of time within a century or two.
   Angles are degrees, times are days since 2000-01-01 12:00 UTC (J2000). */
#ifndef ASTRO_H
#define ASTRO_H

double astro_days(int year, int month, int day); /* noon of that day, UTC */
void astro_date(double days, int *year, int *month, int *day, int *minute);

double sun_longitude(double days);
double sun_altitude(double days, double latitude, double longitude_east);
double moon_longitude(double days);

/* How far the moon is ahead of the sun, 0 to 360: 0 new, 180 full. */
double moon_elongation(double days);

#endif
