/* What the parts of the compiled kernel share: bytes to read from, contents to write, varints.

   Everything is inline and works on its arguments alone. Nothing is read or written before it
   was held to the bytes that are there. */
#ifndef OTTLA_KERNEL_H
#define OTTLA_KERNEL_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define VARINT_BITS 32
#define VARLONG_BITS 64
#define VARLONG_BYTES 10

/* Where the parts of one record are in the bytes of its block; a size is -1 for null. */
typedef struct {
    int32_t key_at;
    int32_t key_size;
    int32_t value_at;
    int32_t value_size;
    int32_t headers_at; /* 0 where there are none */
} Place;

/* The records of one batch. */
typedef struct {
    PyObject_HEAD
    Py_buffer body;
    Py_ssize_t count;
    PyObject *offsets; /* bytes: an int64 for each record, in the order of this machine */
    PyObject *timestamps;
    Place *places;
} Block;

/* _kernel_read.c */
PyObject *kernel_walk(PyObject *module, PyObject *arguments);
PyObject *kernel_read(PyObject *module, PyObject *arguments);
PyObject *kernel_refuse(void);
extern PyType_Spec block_spec;

/* _kernel_block.c */
Py_ssize_t block_length(PyObject *self);
extern PyMethodDef block_methods[];

/* _kernel_write.c */
PyObject *kernel_append(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *kernel_extend(PyObject *module, PyObject *arguments);
PyObject *kernel_murmur2(PyObject *module, PyObject *key);
PyObject *kernel_spread(PyObject *module, PyObject *arguments);

/* _kernel.c */
PyTypeObject *block_type(PyObject *module);

/* Bytes that are still to be read. */
typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} Cursor;

/* The next number of at most `bits`; false where it does not end in time or is too large. */
static inline bool
take_number(Cursor *cursor, int bits, int64_t *number)
{
    uint64_t zigzag = 0;
    for (int shift = 0; shift < bits; shift += 7) {
        if (cursor->at == cursor->end)
            return false;
        uint8_t byte = *cursor->at++;
        uint64_t part = byte & 0x7F;
        if (bits - shift < 7 && part >> (bits - shift))
            return false;
        zigzag |= part << shift;
        if (byte < 0x80) {
            *number = (int64_t)(zigzag >> 1 ^ (~(zigzag & 1) + 1));
            return true;
        }
    }
    return false;
}

/* A length and its bytes; `size` is -1 and `start` NULL for null. */
static inline bool
take_content(Cursor *cursor, const uint8_t **start, int32_t *size)
{
    int64_t length;
    if (!take_number(cursor, VARINT_BITS, &length))
        return false;
    if (length < -1 || length > cursor->end - cursor->at)
        return false;
    *size = (int32_t)length;
    *start = length < 0 ? NULL : cursor->at;
    if (length > 0)
        cursor->at += length;
    return true;
}

static inline int
number_bytes(int64_t number)
{
    uint64_t rest = (uint64_t)number << 1 ^ (number < 0 ? UINT64_MAX : 0);
    int count = 1;
    while (rest >= 0x80) {
        rest >>= 7;
        count++;
    }
    return count;
}

/* Write a number, for which there is room; the place behind it. */
static inline uint8_t *
put_number(uint8_t *at, int64_t number)
{
    uint64_t rest = (uint64_t)number << 1 ^ (number < 0 ? UINT64_MAX : 0);
    while (rest >= 0x80) {
        *at++ = (uint8_t)(rest | 0x80);
        rest >>= 7;
    }
    *at++ = (uint8_t)rest;
    return at;
}

#endif
