#include "lib/tide.h"

#include <math.h>

double tide_height(double days, double amplitude) { return amplitude * cos(days * 2 * 3.14159265358979 / 0.517525); }
