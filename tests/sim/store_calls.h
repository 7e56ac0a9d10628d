/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The system calls of a start, in applet/storage/, are those of start.c. Comes before its files. */
#ifndef SIM_STORE_CALLS_H
#define SIM_STORE_CALLS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <stdbool.h>
#include <unistd.h>

int k_open(const char *path, int flags, ...);
int k_close(int fd);
int k_flock(int fd, int how);
off_t k_lseek(int fd, off_t offset, int whence);
int k_fstat(int fd, struct stat *st);
int k_stat(const char *path, struct stat *st);
int k_fstatfs(int fd, struct statfs *st);
ssize_t k_pread(int fd, void *to, size_t n, off_t offset);
ssize_t k_pwrite(int fd, const void *from, size_t n, off_t offset);
int k_fdatasync(int fd);
int k_fsync(int fd);
int k_ftruncate(int fd, off_t n);
int k_fallocate(int fd, int mode, off_t offset, off_t n);
int k_posix_fadvise(int fd, off_t offset, off_t n, int what);
long k_syscall(long number, int fd, ...);
int k_ioctl(int fd, unsigned long what, void *to);
ssize_t k_fgetxattr(int fd, const char *name, void *to, size_t n);
int k_fsetxattr(int fd, const char *name, const void *from, size_t n, int flags);
int k_rename(const char *from, const char *to);
struct core;
void files_switch(struct core *c, bool complete);
void files_switched(struct core *c, int error);
void files_sync_told(struct core *c);
void *sim_malloc(size_t n);
void *sim_calloc(size_t n, size_t m);
void sim_free(void *p);

#ifndef SIM_START /* there they are made */
#define open k_open
#define close k_close
#define flock(fd, how) k_flock(fd, how)
#define lseek k_lseek
#define fstat k_fstat
#define fstatfs k_fstatfs
#define stat(path, st) k_stat(path, st)
#define pread k_pread
#define pwrite k_pwrite
#define fdatasync k_fdatasync
#define fsync k_fsync
#define ftruncate k_ftruncate
#define fallocate k_fallocate
#define posix_fadvise k_posix_fadvise
#define rename k_rename
#define syscall k_syscall
#define ioctl k_ioctl
#define fgetxattr k_fgetxattr
#define fsetxattr k_fsetxattr
#define malloc sim_malloc
#define calloc sim_calloc
#define aligned_alloc(a, n) sim_malloc(n)
#define free sim_free
/* header.c's port for a switch, and its calls of the core, have start.c between them and the core. */
#define port_switch files_switch
#define core_switched files_switched
#define core_sync_told files_sync_told
#endif

#endif
