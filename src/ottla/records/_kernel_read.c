/* Reading records: the broker's walk, and the pass that makes a block of them for a client.

   The layout of a record is drawn in record.py. The accepted records are those of the reader
   there, no more and no fewer; what is wrong with the others that reader tells. */
#include "_kernel.h"

/* Length, attributes, timestamp, offset, key, value, headers: a byte each at least. */
#define RECORD_MIN_BYTES 7

typedef struct {
    int64_t timestamp_delta;
    int64_t offset_delta;
    const uint8_t *key;
    const uint8_t *value;
    const uint8_t *headers; /* of their count; NULL where there are none */
    int32_t key_size;
    int32_t value_size;
} Parts;

static bool
skip_headers(Cursor *cursor)
{
    const uint8_t *content;
    int32_t size;
    int64_t count;
    if (!take_number(cursor, VARINT_BITS, &count) || count < 0 ||
        count > cursor->end - cursor->at)
        return false;
    while (count--) {
        if (!take_content(cursor, &content, &size) || size < 0)
            return false;
        if (!take_content(cursor, &content, &size))
            return false;
    }
    return true;
}

/* The next record; false where it is not what it says. */
static inline bool
take_record(Cursor *cursor, Parts *parts)
{
    int64_t size;
    if (!take_number(cursor, VARINT_BITS, &size) || size < 1 ||
        size > cursor->end - cursor->at)
        return false;
    Cursor inside = {cursor->at + 1, cursor->at + size};
    if (!take_number(&inside, VARLONG_BITS, &parts->timestamp_delta) ||
        !take_number(&inside, VARINT_BITS, &parts->offset_delta) ||
        !take_content(&inside, &parts->key, &parts->key_size) ||
        !take_content(&inside, &parts->value, &parts->value_size))
        return false;
    if (inside.end - inside.at == 1 && *inside.at == 0) {
        parts->headers = NULL;
        inside.at++;
    }
    else {
        parts->headers = inside.at;
        if (!skip_headers(&inside))
            return false;
    }
    cursor->at = inside.at;
    return inside.at == inside.end;
}

static bool
add(int64_t base, int64_t delta, int64_t *sum)
{
    if (delta > 0 ? base > INT64_MAX - delta : base < INT64_MIN - delta)
        return false;
    *sum = base + delta;
    return true;
}

PyObject *
kernel_refuse(void)
{
    PyErr_SetString(PyExc_ValueError, "records are not what they say");
    return NULL;
}

PyObject *
kernel_walk(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_buffer body;
    Py_ssize_t count;
    long long base_timestamp, lowest, highest;
    int needs_key;
    if (!PyArg_ParseTuple(arguments, "y*nLpLL:walk", &body, &count, &base_timestamp, &needs_key,
                          &lowest, &highest))
        return NULL;
    Cursor cursor = {body.buf, (const uint8_t *)body.buf + body.len};
    int64_t largest = -1;
    bool good = true;
    for (Py_ssize_t index = 0; good && index < count; index++) {
        Parts parts;
        int64_t timestamp;
        good = take_record(&cursor, &parts) && parts.offset_delta == index &&
               (parts.key != NULL || !needs_key) &&
               add(base_timestamp, parts.timestamp_delta, &timestamp) &&
               (timestamp == -1 || (timestamp >= lowest && timestamp <= highest));
        if (good && timestamp > largest)
            largest = timestamp;
    }
    good = good && cursor.at == cursor.end;
    PyBuffer_Release(&body);
    return good ? PyLong_FromLongLong(largest) : kernel_refuse();
}

/* ---- a block */

static void
block_dealloc(PyObject *self)
{
    Block *block = (Block *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc free_block = (freefunc)PyType_GetSlot(type, Py_tp_free);
    if (block->body.obj != NULL)
        PyBuffer_Release(&block->body);
    Py_XDECREF(block->offsets);
    Py_XDECREF(block->timestamps);
    PyMem_Free(block->places);
    free_block(self);
    Py_DECREF(type);
}

static bool
block_fill(Block *block, int64_t base_offset, int64_t base_timestamp, const int64_t *append_time)
{
    const uint8_t *start = block->body.buf;
    Cursor cursor = {start, start + block->body.len};
    char *offsets = PyBytes_AsString(block->offsets);
    char *timestamps = PyBytes_AsString(block->timestamps);
    for (Py_ssize_t index = 0; index < block->count; index++) {
        Parts parts;
        int64_t offset, timestamp;
        if (!take_record(&cursor, &parts) || !add(base_offset, parts.offset_delta, &offset))
            return false;
        if (append_time != NULL)
            timestamp = *append_time;
        else if (!add(base_timestamp, parts.timestamp_delta, &timestamp))
            return false;
        memcpy(offsets + index * 8, &offset, 8);
        memcpy(timestamps + index * 8, &timestamp, 8);
        block->places[index] = (Place){
            .key_at = parts.key == NULL ? 0 : (int32_t)(parts.key - start),
            .key_size = parts.key_size,
            .value_at = parts.value == NULL ? 0 : (int32_t)(parts.value - start),
            .value_size = parts.value_size,
            .headers_at = parts.headers == NULL ? 0 : (int32_t)(parts.headers - start),
        };
    }
    return cursor.at == cursor.end;
}

PyObject *
kernel_read(PyObject *module, PyObject *arguments)
{
    Py_ssize_t count;
    long long base_offset, base_timestamp;
    PyObject *append_time_given;
    PyTypeObject *type = block_type(module);
    if (type == NULL)
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Block *block = (Block *)allocate(type, 0); /* all zero */
    if (block == NULL)
        return NULL;
    if (!PyArg_ParseTuple(arguments, "y*nLLO:read", &block->body, &count, &base_offset,
                          &base_timestamp, &append_time_given))
        goto failed;
    int64_t append_time = 0;
    bool has_append_time = append_time_given != Py_None;
    if (has_append_time) {
        append_time = PyLong_AsLongLong(append_time_given);
        if (append_time == -1 && PyErr_Occurred())
            goto failed;
    }
    /* So what is allocated here is bounded by the bytes that came. */
    if (count < 0 || count > block->body.len / RECORD_MIN_BYTES || block->body.len > INT32_MAX) {
        kernel_refuse();
        goto failed;
    }
    block->count = count;
    block->offsets = PyBytes_FromStringAndSize(NULL, count * 8);
    block->timestamps = PyBytes_FromStringAndSize(NULL, count * 8);
    block->places = PyMem_Malloc((size_t)(count ? count : 1) * sizeof(Place));
    if (block->offsets == NULL || block->timestamps == NULL)
        goto failed;
    if (block->places == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    if (!block_fill(block, base_offset, base_timestamp, has_append_time ? &append_time : NULL)) {
        kernel_refuse();
        goto failed;
    }
    return (PyObject *)block;
failed:
    Py_DECREF(block);
    return NULL;
}

static PyType_Slot block_slots[] = {
    {Py_tp_dealloc, block_dealloc},
    {Py_tp_methods, block_methods},
    {Py_sq_length, block_length},
    {0, NULL},
};

PyType_Spec block_spec = {
    .name = "ottla.records._kernel.Block",
    .basicsize = sizeof(Block),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = block_slots,
};
