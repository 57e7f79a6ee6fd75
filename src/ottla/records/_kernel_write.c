/* Writing records behind one another into a bytearray, and the hash of their keys.

   A record is measured, then room is made for it, then it is written: no Python code runs
   between the last two. Where anything raises, the bytearray is as long as it was. */
#include "_kernel.h"

/* A key or value: `size` is -1 for null. */
typedef struct {
    const char *data;
    Py_ssize_t size;
    Py_buffer view; /* held where the object is not bytes */
} Content;

static bool
hold(PyObject *object, Content *content)
{
    content->view.obj = NULL;
    content->data = NULL;
    content->size = -1;
    if (object == Py_None)
        return true;
    if (PyBytes_CheckExact(object)) {
        content->data = PyBytes_AsString(object);
        content->size = PyBytes_Size(object);
        return true;
    }
    if (PyObject_GetBuffer(object, &content->view, PyBUF_SIMPLE) < 0)
        return false;
    content->data = content->view.buf;
    content->size = content->view.len;
    return true;
}

static void
let_go(Content *content)
{
    if (content->view.obj != NULL)
        PyBuffer_Release(&content->view);
}

static Py_ssize_t
content_bytes(const Content *content)
{
    return number_bytes(content->size) + (content->size > 0 ? content->size : 0);
}

static uint8_t *
put_content(uint8_t *at, const Content *content)
{
    at = put_number(at, content->size);
    if (content->size > 0) {
        memcpy(at, content->data, (size_t)content->size);
        at += content->size;
    }
    return at;
}

static bool
is_too_large(const Content *content)
{
    return content->size > INT32_MAX / 4;
}

static bool
refuse_large(void)
{
    PyErr_SetString(PyExc_OverflowError, "a record is too large for its length field");
    return false;
}

/* Of a record without its length. `headers` is the end of a record as it is written. */
static Py_ssize_t
record_bytes(int64_t timestamp_delta, int64_t offset_delta, const Content *key,
             const Content *value, const Content *headers)
{
    return 1 + number_bytes(timestamp_delta) + number_bytes(offset_delta) + content_bytes(key) +
           content_bytes(value) + headers->size;
}

/* Write one record of so many bytes, for which there is room; the place behind it. */
static uint8_t *
put_record(uint8_t *at, Py_ssize_t size, int64_t timestamp_delta, int64_t offset_delta,
           const Content *key, const Content *value, const Content *headers)
{
    at = put_number(at, size);
    *at++ = 0; /* attributes */
    at = put_number(at, timestamp_delta);
    at = put_number(at, offset_delta);
    at = put_content(at, key);
    at = put_content(at, value);
    memcpy(at, headers->data, (size_t)headers->size);
    return at + headers->size;
}

static bool
append_record(PyObject *body, int64_t timestamp_delta, int64_t offset_delta, const Content *key,
              const Content *value, const Content *headers)
{
    if (is_too_large(key) || is_too_large(value) || is_too_large(headers))
        return refuse_large();
    Py_ssize_t size = record_bytes(timestamp_delta, offset_delta, key, value, headers);
    Py_ssize_t before = PyByteArray_Size(body);
    Py_ssize_t whole = number_bytes(size) + size;
    if (before > PY_SSIZE_T_MAX - whole)
        return refuse_large();
    if (PyByteArray_Resize(body, before + whole) < 0)
        return false;
    uint8_t *at = (uint8_t *)PyByteArray_AsString(body) + before;
    put_record(at, size, timestamp_delta, offset_delta, key, value, headers);
    return true;
}

static bool
take_delta(PyObject *object, int64_t least, int64_t most, int64_t *number)
{
    *number = PyLong_AsLongLong(object);
    if (*number == -1 && PyErr_Occurred())
        return false;
    if (*number >= least && *number <= most)
        return true;
    PyErr_SetString(PyExc_OverflowError, "an offset is too far from its batch");
    return false;
}

static bool
take_body(PyObject *body)
{
    if (PyByteArray_Check(body))
        return true;
    PyErr_SetString(PyExc_TypeError, "records are written into a bytearray");
    return false;
}

static const Content NULL_CONTENT = {NULL, -1, {0}};
static const Content NO_HEADERS = {"\0", 1, {0}};

PyObject *
kernel_append(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    int64_t timestamp_delta, offset_delta;
    if (count != 6) {
        PyErr_Format(PyExc_TypeError, "append takes 6 arguments, not %zd", count);
        return NULL;
    }
    PyObject *body = arguments[0];
    Content key = NULL_CONTENT, value = NULL_CONTENT, headers = NO_HEADERS;
    bool is_done = take_body(body) &&
                   take_delta(arguments[1], INT64_MIN, INT64_MAX, &timestamp_delta) &&
                   take_delta(arguments[2], INT32_MIN, INT32_MAX, &offset_delta) &&
                   hold(arguments[3], &key) && hold(arguments[4], &value) &&
                   (arguments[5] == Py_None || hold(arguments[5], &headers)) &&
                   append_record(body, timestamp_delta, offset_delta, &key, &value, &headers);
    let_go(&key);
    let_go(&value);
    let_go(&headers);
    if (!is_done)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- many at once: bytes or None alone, so that no code but this runs in between */

static bool
borrow(PyObject *object, Content *content)
{
    *content = NULL_CONTENT;
    if (object == Py_None)
        return true;
    if (!PyBytes_CheckExact(object)) {
        PyErr_SetString(PyExc_TypeError, "keys and values of many records are bytes or None");
        return false;
    }
    content->data = PyBytes_AsString(object);
    content->size = PyBytes_Size(object);
    return true;
}

/* Records that follow one another: without headers, and all of one time. */
typedef struct {
    PyObject *keys; /* a list as long as the values, or None */
    PyObject *values;
    Py_ssize_t start;
    int64_t timestamp_delta;
    int64_t offset_delta; /* of the first one */
} Rows;

/* Key, value and size of a row; -1 where it is no record. */
static Py_ssize_t
measure_row(const Rows *rows, Py_ssize_t index, Content *key, Content *value)
{
    int64_t offset_delta = rows->offset_delta + (index - rows->start);
    *key = NULL_CONTENT;
    bool is_record = (offset_delta <= INT32_MAX || refuse_large()) &&
                     (rows->keys == Py_None || borrow(PyList_GetItem(rows->keys, index), key)) &&
                     borrow(PyList_GetItem(rows->values, index), value) &&
                     ((!is_too_large(key) && !is_too_large(value)) || refuse_large());
    if (!is_record)
        return -1;
    return record_bytes(rows->timestamp_delta, offset_delta, key, value, &NO_HEADERS);
}

/* The index behind the last row for which there is room, and what it takes; -1 for an error. */
static Py_ssize_t
measure_rows(const Rows *rows, Py_ssize_t room, Py_ssize_t *taken)
{
    Py_ssize_t index = rows->start, count = PyList_Size(rows->values);
    for (*taken = 0; index < count; index++) {
        Content key, value;
        Py_ssize_t size = measure_row(rows, index, &key, &value);
        if (size < 0)
            return -1;
        size += number_bytes(size);
        if (size > room - *taken)
            break;
        *taken += size;
    }
    return index;
}

PyObject *
kernel_extend(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *body;
    Rows rows;
    long long timestamp_delta;
    int first;
    Py_ssize_t limit, taken;
    if (!PyArg_ParseTuple(arguments, "O!LiOO!nn:extend", &PyByteArray_Type, &body,
                          &timestamp_delta, &first, &rows.keys, &PyList_Type, &rows.values,
                          &rows.start, &limit))
        return NULL;
    Py_ssize_t count = PyList_Size(rows.values), before = PyByteArray_Size(body);
    if (rows.keys != Py_None && (!PyList_Check(rows.keys) || PyList_Size(rows.keys) != count)) {
        PyErr_SetString(PyExc_ValueError, "keys are None, or a list as long as the values");
        return NULL;
    }
    if (rows.start < 0 || rows.start > count) {
        PyErr_SetString(PyExc_IndexError, "no such record in the values");
        return NULL;
    }
    rows.timestamp_delta = timestamp_delta;
    rows.offset_delta = first;
    Py_ssize_t room = limit < before ? 0 : limit - before;
    Py_ssize_t stop = measure_rows(&rows, room, &taken);
    if (stop < 0 || (taken && PyByteArray_Resize(body, before + taken) < 0))
        return NULL;
    uint8_t *at = (uint8_t *)PyByteArray_AsString(body) + before;
    for (Py_ssize_t index = rows.start; index < stop; index++) {
        Content key, value;
        Py_ssize_t size = measure_row(&rows, index, &key, &value);
        int64_t offset_delta = rows.offset_delta + (index - rows.start);
        at = put_record(at, size, rows.timestamp_delta, offset_delta, &key, &value, &NO_HEADERS);
    }
    return PyLong_FromSsize_t(stop);
}

#define MURMUR_SEED 0x9747B28Cu
#define MURMUR_MULTIPLIER 0x5BD1E995u

static uint32_t
murmur2(const Content *key)
{
    const uint8_t *at = (const uint8_t *)key->data, *end = at + key->size;
    uint32_t mixed = MURMUR_SEED ^ (uint32_t)key->size;
    for (; end - at >= 4; at += 4) {
        uint32_t word = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
                        (uint32_t)at[3] << 24;
        word *= MURMUR_MULTIPLIER;
        word = (word ^ word >> 24) * MURMUR_MULTIPLIER;
        mixed = mixed * MURMUR_MULTIPLIER ^ word;
    }
    if (at < end) {
        for (int shift = 0; at < end; at++, shift += 8)
            mixed ^= (uint32_t)*at << shift;
        mixed *= MURMUR_MULTIPLIER;
    }
    mixed = (mixed ^ mixed >> 13) * MURMUR_MULTIPLIER;
    return mixed ^ mixed >> 15;
}

PyObject *
kernel_murmur2(PyObject *Py_UNUSED(module), PyObject *object)
{
    Content key;
    if (object == Py_None) {
        PyErr_SetString(PyExc_TypeError, "a key is bytes");
        return NULL;
    }
    if (!hold(object, &key))
        return NULL;
    uint32_t hash = murmur2(&key);
    let_go(&key);
    return PyLong_FromUnsignedLong(hash);
}

/* Put a pair into the lists of its group, which is made where it is the first one. */
static bool
add_pair(PyObject *groups, PyObject **group, Py_ssize_t place, PyObject *key, PyObject *value)
{
    if (*group == NULL) {
        *group = Py_BuildValue("(n[][])", place);
        bool is_kept = *group != NULL && PyList_Append(groups, *group) == 0;
        Py_XDECREF(*group); /* the list of groups keeps it */
        if (!is_kept)
            return false;
    }
    return PyList_Append(PyTuple_GetItem(*group, 1), key) == 0 &&
           PyList_Append(PyTuple_GetItem(*group, 2), value) == 0;
}

static bool
is_plain_pair(PyObject *pair)
{
    if (!PyTuple_CheckExact(pair) || PyTuple_Size(pair) != 2)
        return false;
    PyObject *value = PyTuple_GetItem(pair, 1);
    return PyBytes_CheckExact(PyTuple_GetItem(pair, 0)) &&
           (value == Py_None || PyBytes_CheckExact(value));
}

PyObject *
kernel_spread(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *pairs;
    int count;
    if (!PyArg_ParseTuple(arguments, "O!i:spread", &PyList_Type, &pairs, &count))
        return NULL;
    if (count < 1) {
        PyErr_SetString(PyExc_ValueError, "pairs are spread over one place or more");
        return NULL;
    }
    PyObject *groups = PyList_New(0);
    PyObject **placed = PyMem_Calloc((size_t)count, sizeof(PyObject *)); /* borrowed */
    if (groups != NULL && placed == NULL)
        PyErr_NoMemory();
    bool is_done = groups != NULL && placed != NULL, is_plain = true;
    for (Py_ssize_t index = 0; is_done && is_plain && index < PyList_Size(pairs); index++) {
        PyObject *pair = Py_NewRef(PyList_GetItem(pairs, index));
        is_plain = is_plain_pair(pair);
        if (is_plain) {
            Content key;
            PyObject *key_given = PyTuple_GetItem(pair, 0);
            borrow(key_given, &key);
            Py_ssize_t place = (Py_ssize_t)(murmur2(&key) & INT32_MAX) % count;
            is_done = add_pair(groups, &placed[place], place, key_given, PyTuple_GetItem(pair, 1));
        }
        Py_DECREF(pair);
    }
    PyMem_Free(placed);
    if (is_done && is_plain)
        return groups;
    Py_XDECREF(groups);
    return is_done ? Py_NewRef(Py_None) : NULL;
}
