/* Heights of the tide. Nothing includes this yet: the planner stage leaves it
   out, and a change here rebuilds nothing. */
#ifndef TIDE_H
#define TIDE_H

double tide_height(double days, double amplitude);

#endif
