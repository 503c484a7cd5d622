/*
 * What a run may not leave different without its owner's approval
 *
 * Model:  a change is protected where the patterns cover its path. So is a symbolic link that
 * stands in place of a directory above such a path: it would lead there by another name. What is
 * removed or replaced with all it held is a change of each path below. Of a directory alone only
 * its permissions count: that it is new or gone says nothing, what it held or holds does.
 * Limits: a link that the original has already is not followed: name what it points to, too.
 */
#pragma once

#include "base/pattern.h"
#include "workspace/changes.h"

/** protect_concerns() - does this change need an approval that it has not?
 * @protected: a policy's patterns, less what the task's owner approved */
bool protect_concerns(const PatternSet *protected, const ChangeItem *item);
