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

/* Append one record. `headers` is the end of a record as it is written. */
static bool
append_record(PyObject *body, int64_t timestamp_delta, int64_t offset_delta, const Content *key,
              const Content *value, const Content *headers)
{
    if (is_too_large(key) || is_too_large(value) || is_too_large(headers))
        return refuse_large();
    Py_ssize_t size = 1 + number_bytes(timestamp_delta) + number_bytes(offset_delta) +
                      content_bytes(key) + content_bytes(value) + headers->size;
    Py_ssize_t before = PyByteArray_Size(body);
    Py_ssize_t whole = number_bytes(size) + size;
    if (before > PY_SSIZE_T_MAX - whole)
        return refuse_large();
    if (PyByteArray_Resize(body, before + whole) < 0)
        return false;
    uint8_t *at = (uint8_t *)PyByteArray_AsString(body) + before;
    at = put_number(at, size);
    *at++ = 0; /* attributes */
    at = put_number(at, timestamp_delta);
    at = put_number(at, offset_delta);
    at = put_content(at, key);
    at = put_content(at, value);
    memcpy(at, headers->data, (size_t)headers->size);
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

PyObject *
kernel_extend(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *body, *keys, *values;
    long long timestamp_delta;
    int first;
    if (!PyArg_ParseTuple(arguments, "O!LiOO!:extend", &PyByteArray_Type, &body,
                          &timestamp_delta, &first, &keys, &PyList_Type, &values))
        return NULL;
    Py_ssize_t count = PyList_Size(values);
    if (keys != Py_None && (!PyList_Check(keys) || PyList_Size(keys) != count)) {
        PyErr_SetString(PyExc_ValueError, "keys are None, or a list as long as the values");
        return NULL;
    }
    Py_ssize_t before = PyByteArray_Size(body);
    bool is_done = true;
    for (Py_ssize_t index = 0; is_done && index < count; index++) {
        Content key = NULL_CONTENT, value = NULL_CONTENT;
        if (first > INT32_MAX - index) {
            is_done = refuse_large();
            break;
        }
        /* Kept alive, since a buffer's own code may change the lists. */
        PyObject *value_given = PySequence_GetItem(values, index);
        PyObject *key_given =
            keys == Py_None ? Py_NewRef(Py_None) : PySequence_GetItem(keys, index);
        is_done = value_given != NULL && key_given != NULL && hold(key_given, &key) &&
                  hold(value_given, &value) &&
                  append_record(body, timestamp_delta, first + index, &key, &value, &NO_HEADERS);
        let_go(&key);
        let_go(&value);
        Py_XDECREF(key_given);
        Py_XDECREF(value_given);
    }
    if (!is_done) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        if (PyByteArray_Size(body) > before && PyByteArray_Resize(body, before) < 0)
            PyErr_Clear();
        PyErr_Restore(type, error, traceback);
        return NULL;
    }
    Py_RETURN_NONE;
}

#define MURMUR_SEED 0x9747B28Cu
#define MURMUR_MULTIPLIER 0x5BD1E995u

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
    const uint8_t *at = (const uint8_t *)key.data, *end = at + key.size;
    uint32_t mixed = MURMUR_SEED ^ (uint32_t)key.size;
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
    let_go(&key);
    mixed = (mixed ^ mixed >> 13) * MURMUR_MULTIPLIER;
    return PyLong_FromUnsignedLong(mixed ^ mixed >> 15);
}
