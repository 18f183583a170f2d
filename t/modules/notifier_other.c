/* A shared object that is no notifier. */
extern const int nothing_to_see;
const int nothing_to_see = 1;
