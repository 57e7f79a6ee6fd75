/* The compiled twin of pure_kernel.py: the same names, the same results, the same errors.

   CPython's stable interface of 3.11, so that one build serves every later version. All state
   hangs on the module object. The build is optional (pyproject.toml): without a compiler the
   package is complete, and kernel.py takes the Python twin. */
#include "_kernel.h"

typedef struct {
    PyTypeObject *block_type;
} State;

PyTypeObject *
block_type(PyObject *module)
{
    State *state = PyModule_GetState(module);
    return state->block_type;
}

static int
kernel_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->block_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &block_spec, NULL);
    if (state->block_type == NULL)
        return -1;
    return PyModule_AddType(module, state->block_type);
}

static int
kernel_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->block_type);
    return 0;
}

static int
kernel_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->block_type);
    return 0;
}

static PyMethodDef kernel_methods[] = {
    {"walk", kernel_walk, METH_VARARGS, NULL},
    {"read", kernel_read, METH_VARARGS, NULL},
    {"append", (PyCFunction)(void (*)(void))kernel_append, METH_FASTCALL, NULL},
    {"extend", kernel_extend, METH_VARARGS, NULL},
    {"murmur2", kernel_murmur2, METH_O, NULL},
    {"spread", kernel_spread, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot kernel_slots[] = {
    {Py_mod_exec, kernel_exec},
    {0, NULL},
};

static PyModuleDef kernel_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ottla.records._kernel",
    .m_doc = "The compiled twin of ottla.records.pure_kernel.",
    .m_size = sizeof(State),
    .m_methods = kernel_methods,
    .m_slots = kernel_slots,
    .m_traverse = kernel_traverse,
    .m_clear = kernel_clear,
};

PyMODINIT_FUNC
PyInit__kernel(void)
{
    return PyModuleDef_Init(&kernel_module);
}
