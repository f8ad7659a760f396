"""One kernel from Python, by ctypes: the product of q4_0 weights and the activations of two tokens.

    npm install cria
    python3 matmul.py node_modules/cria/prebuilds/linux-x64/libcria.so
"""

import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_size_t, c_uint8, c_uint32, c_void_p

ABI_VERSION = 1
DEVICE_CPU, ISA_AUTO = 0, 0  # cria_device_kind, cria_isa
TYPE_Q4_0 = 2  # cria_type


class CriaError(Exception):
    """A call that failed, with cria_last_error's sentence."""

    def __init__(self, status, sentence):
        super().__init__(sentence)
        self.status = status


class DeviceOptions(ctypes.Structure):
    """cria_device_options"""

    _fields_ = [("struct_size", c_uint32), ("kind", c_int32), ("isa", c_int32), ("threads", c_uint32)]


def load(path):
    """The library, with what is used of it declared: every cria_status that is not CRIA_OK raises a CriaError."""
    cria = ctypes.CDLL(path)
    cria.cria_abi_version.restype = c_uint32
    cria.cria_last_error.restype = c_char_p
    cria.cria_device_free.argtypes = cria.cria_tensor_free.argtypes = [c_void_p]
    cria.cria_device_free.restype = cria.cria_tensor_free.restype = None
    if cria.cria_abi_version() != ABI_VERSION:
        raise OSError(f"{path} is of ABI version {cria.cria_abi_version()}, not {ABI_VERSION}")

    def check(status, _function, _arguments):
        if status != 0:
            raise CriaError(status, cria.cria_last_error().decode())

    for name, arguments in {
        "cria_device_open": [POINTER(DeviceOptions), POINTER(c_void_p)],
        "cria_matrix_create": [c_void_p, c_int32, c_size_t, c_size_t, POINTER(c_void_p)],
        "cria_tensor_pack": [c_void_p, c_size_t, c_size_t, c_void_p, c_size_t],
        "cria_matmul": [c_void_p, c_void_p, c_size_t, POINTER(c_float), POINTER(c_float)],
    }.items():
        function = getattr(cria, name)
        function.argtypes, function.restype, function.errcheck = arguments, c_int32, check
    return cria


def main(path):
    cria = load(path)
    rows, cols, tokens, block = 4, 64, 2, 32

    # Weights and activations from nowhere in particular, the same in the examples of every language. A q4_0 block, as
    # GGUF files hold it, is 32 weights of a row: a scale in f16, little-endian (0x2c00 is 1/16), and 32 times 4 bits.
    weights = b"".join(
        bytes([0x00, 0x2C]) + bytes((37 * b + 11 * i) % 256 for i in range(block // 2))
        for b in range(rows * cols // block)
    )
    x = (c_float * (tokens * cols))(*((7 * i % 13 - 6) / 8 for i in range(tokens * cols)))
    out = (c_float * (tokens * rows))()

    device, weight = c_void_p(), c_void_p()
    try:
        options = DeviceOptions(ctypes.sizeof(DeviceOptions), DEVICE_CPU, ISA_AUTO, 0)
        cria.cria_device_open(byref(options), byref(device))
        cria.cria_matrix_create(device, TYPE_Q4_0, rows, cols, byref(weight))
        cria.cria_tensor_pack(weight, 0, rows, weights, len(weights))
        cria.cria_matmul(device, weight, tokens, x, out)
        for t in range(tokens):
            print(*out[t * rows : (t + 1) * rows])

        # What cannot be is refused, with a sentence that says why.
        try:
            cria.cria_matrix_create(device, TYPE_Q4_0, rows, cols + 1, byref(c_void_p()))
        except CriaError as error:
            print(f"refused with {error.status}: {error}")
    finally:
        cria.cria_tensor_free(weight)
        cria.cria_device_free(device)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 matmul.py LIBRARY")
    main(sys.argv[1])
