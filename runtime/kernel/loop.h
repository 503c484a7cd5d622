/*
 * Loop devices: a file as a block device
 *
 * Model:     a device is bound with LO_FLAGS_AUTOCLEAR, so it lives as long as somebody has it open
 * or mounted and is free again after that; whoever is killed leaves none. Reads and writes go
 * around the page cache of the file's own file system (direct I/O): what is written is cached once.
 * Trust:     runs as root; the file is the supervisor's own.
 * Invariant: two devices for one file would each cache it, and ruin it. The caller makes sure that
 * nobody else binds it meanwhile (a lock), and asks loop_find() first.
 * Source:    loop(4), LOOP_CONFIGURE; Linux >= 5.8.
 */
#pragma once

#include "base/error.h"

#define LOOP_PATH_MAX 32

/**
 * loop_attach() - bind a free loop device to a file
 * @file_fd:  open for reading and writing; the device keeps its description (flock(2) included)
 * @ret_path: the device's path
 *
 * Return: descriptor of the device, which keeps it bound until something is mounted from it;
 * -ENOENT, -ENODEV or -ENOTTY where this host has no loop devices.
 */
int loop_attach(int file_fd, char ret_path[static LOOP_PATH_MAX], Error **reterr);

/** loop_find() - the device that is bound to a file. Return: descriptor; -ENODEV, without an error:
 * none.
 */
int loop_find(int file_fd, char ret_path[static LOOP_PATH_MAX], Error **reterr);
