/* What is made of a block: columns, rows, and numbers and contents packed for numpy and Arrow.

   A block keeps the bytes it was read from, so a part is a place in them and no copy, until an
   object of it is asked for. Its places were checked once; whoever changes the bytes after that
   reads nonsense, but never outside of them: headers, read again here, are checked again. */
#include "_kernel.h"

static bool
is_within(Block *block, Py_ssize_t start, Py_ssize_t stop)
{
    if (0 <= start && start <= stop && stop <= block->count)
        return true;
    PyErr_SetString(PyExc_IndexError, "no such records in the block");
    return false;
}

/* (start, stop) of a call, held to the records there are. */
static bool
take_range(Block *block, PyObject *arguments, Py_ssize_t *start, Py_ssize_t *stop)
{
    return PyArg_ParseTuple(arguments, "nn", start, stop) && is_within(block, *start, *stop);
}

static PyObject *
bytes_at(Block *block, int32_t at, int32_t size)
{
    if (size < 0)
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize((const char *)block->body.buf + at, size);
}

static PyObject *
number_at(PyObject *numbers, Py_ssize_t index)
{
    int64_t number;
    memcpy(&number, PyBytes_AsString(numbers) + index * 8, 8);
    return PyLong_FromLongLong(number);
}

static PyObject *
offset_at(Block *block, Py_ssize_t index)
{
    return number_at(block->offsets, index);
}

static PyObject *
timestamp_at(Block *block, Py_ssize_t index)
{
    return number_at(block->timestamps, index);
}

static PyObject *
key_at(Block *block, Py_ssize_t index)
{
    return bytes_at(block, block->places[index].key_at, block->places[index].key_size);
}

static PyObject *
value_at(Block *block, Py_ssize_t index)
{
    return bytes_at(block, block->places[index].value_at, block->places[index].value_size);
}

static PyObject *
header_of(Cursor *cursor)
{
    const uint8_t *name, *value;
    int32_t name_size, value_size;
    if (!take_content(cursor, &name, &name_size) || name_size < 0 ||
        !take_content(cursor, &value, &value_size))
        return kernel_refuse();
    PyObject *text = PyUnicode_DecodeUTF8((const char *)name, name_size, "surrogateescape");
    PyObject *content = value_size < 0
                            ? Py_NewRef(Py_None)
                            : PyBytes_FromStringAndSize((const char *)value, value_size);
    PyObject *header = text && content ? PyTuple_Pack(2, text, content) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(content);
    return header;
}

static PyObject *
headers_at(Block *block, Py_ssize_t index)
{
    int32_t at = block->places[index].headers_at;
    if (at == 0)
        return PyTuple_New(0);
    const uint8_t *start = block->body.buf;
    Cursor cursor = {start + at, start + block->body.len};
    int64_t count;
    if (!take_number(&cursor, VARINT_BITS, &count) || count < 0 ||
        count > cursor.end - cursor.at)
        return kernel_refuse();
    PyObject *headers = PyTuple_New((Py_ssize_t)count);
    for (int64_t each = 0; headers != NULL && each < count; each++) {
        PyObject *header = header_of(&cursor);
        if (header == NULL || PyTuple_SetItem(headers, (Py_ssize_t)each, header) < 0)
            Py_CLEAR(headers);
    }
    return headers;
}

typedef PyObject *(*Part)(Block *, Py_ssize_t);

static PyObject *
column(PyObject *self, PyObject *arguments, Part part)
{
    Block *block = (Block *)self;
    Py_ssize_t start, stop;
    if (!take_range(block, arguments, &start, &stop))
        return NULL;
    PyObject *list = PyList_New(stop - start);
    for (Py_ssize_t index = start; list != NULL && index < stop; index++) {
        PyObject *item = part(block, index);
        if (item == NULL || PyList_SetItem(list, index - start, item) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *
block_offsets(PyObject *self, PyObject *arguments)
{
    return column(self, arguments, offset_at);
}

static PyObject *
block_timestamps(PyObject *self, PyObject *arguments)
{
    return column(self, arguments, timestamp_at);
}

static PyObject *
block_keys(PyObject *self, PyObject *arguments)
{
    return column(self, arguments, key_at);
}

static PyObject *
block_values(PyObject *self, PyObject *arguments)
{
    return column(self, arguments, value_at);
}

static PyObject *
block_headers(PyObject *self, PyObject *arguments)
{
    return column(self, arguments, headers_at);
}

static const Part ROW[] = {offset_at, timestamp_at, key_at, value_at, headers_at};
#define ROW_COUNT 5

/* One tuple of `type`: the items of `head`, then the parts of a record. */
static PyObject *
row_of(Block *block, Py_ssize_t index, PyTypeObject *type, allocfunc allocate, PyObject *head)
{
    Py_ssize_t before = PyTuple_Size(head);
    PyObject *row = allocate(type, before + ROW_COUNT);
    for (Py_ssize_t each = 0; row != NULL && each < before; each++) {
        if (PyTuple_SetItem(row, each, Py_NewRef(PyTuple_GetItem(head, each))) < 0)
            Py_CLEAR(row);
    }
    for (Py_ssize_t each = 0; row != NULL && each < ROW_COUNT; each++) {
        PyObject *item = ROW[each](block, index);
        if (item == NULL || PyTuple_SetItem(row, before + each, item) < 0)
            Py_CLEAR(row);
    }
    return row;
}

static PyObject *
block_rows(PyObject *self, PyObject *arguments)
{
    Block *block = (Block *)self;
    Py_ssize_t start, stop;
    PyObject *type, *head;
    if (!PyArg_ParseTuple(arguments, "O!O!nn:rows", &PyType_Type, &type, &PyTuple_Type, &head,
                          &start, &stop))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "rows are tuples");
        return NULL;
    }
    if (!is_within(block, start, stop))
        return NULL;
    PyObject *rows = PyList_New(stop - start);
    allocfunc allocate = (allocfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_alloc);
    for (Py_ssize_t index = start; rows != NULL && index < stop; index++) {
        PyObject *row = row_of(block, index, (PyTypeObject *)type, allocate, head);
        if (row == NULL || PyList_SetItem(rows, index - start, row) < 0)
            Py_CLEAR(rows);
    }
    return rows;
}

/* Contents one behind the other: (bytes, int32 of where each starts and the last ends, bits). */
static PyObject *
packed(PyObject *self, PyObject *arguments, bool is_key)
{
    Block *block = (Block *)self;
    Py_ssize_t start, stop, size = 0;
    if (!take_range(block, arguments, &start, &stop))
        return NULL;
    for (Py_ssize_t index = start; index < stop; index++) {
        Place *place = &block->places[index];
        int32_t each = is_key ? place->key_size : place->value_size;
        size += each < 0 ? 0 : each;
    }
    Py_ssize_t count = stop - start;
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    PyObject *ends = PyBytes_FromStringAndSize(NULL, (count + 1) * 4);
    PyObject *bits = PyBytes_FromStringAndSize(NULL, (count + 7) / 8);
    PyObject *found = NULL;
    if (data != NULL && ends != NULL && bits != NULL) {
        char *to = PyBytes_AsString(data), *end_at = PyBytes_AsString(ends);
        char *bit_at = PyBytes_AsString(bits);
        int32_t at = 0;
        memset(bit_at, 0, (size_t)(count + 7) / 8);
        memcpy(end_at, &at, 4);
        for (Py_ssize_t index = 0; index < count; index++) {
            Place *place = &block->places[start + index];
            int32_t each = is_key ? place->key_size : place->value_size;
            if (each >= 0) {
                memcpy(to + at, (const char *)block->body.buf +
                                    (is_key ? place->key_at : place->value_at), (size_t)each);
                bit_at[index / 8] = (char)(bit_at[index / 8] | 1 << index % 8);
                at += each;
            }
            memcpy(end_at + (index + 1) * 4, &at, 4);
        }
        found = PyTuple_Pack(3, data, ends, bits);
    }
    Py_XDECREF(data);
    Py_XDECREF(ends);
    Py_XDECREF(bits);
    return found;
}

static PyObject *
block_packed_keys(PyObject *self, PyObject *arguments)
{
    return packed(self, arguments, true);
}

static PyObject *
block_packed_values(PyObject *self, PyObject *arguments)
{
    return packed(self, arguments, false);
}

static PyObject *
block_offset_bytes(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    return Py_NewRef(((Block *)self)->offsets);
}

static PyObject *
block_timestamp_bytes(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    return Py_NewRef(((Block *)self)->timestamps);
}

static PyObject *
block_find(PyObject *self, PyObject *wanted)
{
    Block *block = (Block *)self;
    int64_t offset, least = PyLong_AsLongLong(wanted);
    if (least == -1 && PyErr_Occurred())
        return NULL;
    Py_ssize_t index = 0;
    for (; index < block->count; index++) {
        memcpy(&offset, PyBytes_AsString(block->offsets) + index * 8, 8);
        if (offset >= least)
            break;
    }
    return PyLong_FromSsize_t(index);
}

Py_ssize_t
block_length(PyObject *self)
{
    return ((Block *)self)->count;
}

PyMethodDef block_methods[] = {
    {"find", block_find, METH_O, NULL},
    {"offsets", block_offsets, METH_VARARGS, NULL},
    {"timestamps", block_timestamps, METH_VARARGS, NULL},
    {"keys", block_keys, METH_VARARGS, NULL},
    {"values", block_values, METH_VARARGS, NULL},
    {"headers", block_headers, METH_VARARGS, NULL},
    {"rows", block_rows, METH_VARARGS, NULL},
    {"offset_bytes", block_offset_bytes, METH_NOARGS, NULL},
    {"timestamp_bytes", block_timestamp_bytes, METH_NOARGS, NULL},
    {"packed_keys", block_packed_keys, METH_VARARGS, NULL},
    {"packed_values", block_packed_values, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
