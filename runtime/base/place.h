/*
 * Where carrel's own files are: installed, or in the build tree that the running program stands in
 *
 * Every program of a build tree stands two folders below its root, so a tree can be used without an
 * installation.
 */
#pragma once

/**
 * place_find() - @in_tree, relative to the build tree's root, if this program runs from one that
 * has it; else @installed
 *
 * Return: a fresh path, or NULL when memory is out. Whether @installed exists is not looked at.
 */
char *place_find(const char *in_tree, const char *installed);
