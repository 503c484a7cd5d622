#include "workspace/protect.h"

bool protect_concerns(const PatternSet *protected, const ChangeItem *item) {
        mode_t lower = item->has_lower ? item->lower.st_mode : 0;
        mode_t upper = item->has_upper ? item->upper.st_mode : 0;
        PatternMatch least = S_ISLNK(upper) ? PATTERN_LEADS : PATTERN_COVERS;

        if ((S_ISDIR(lower) && !upper) || (S_ISDIR(upper) && !lower))
                return false;
        return pattern_set_match(protected, item->path) >= least;
}
