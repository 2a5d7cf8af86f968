"""Writes GGUF files of unquantised tensors, the format that llama.cpp loads.

A file is a header, key-value pairs, the descriptions of the tensors, and their data, each part of which begins at a
multiple of ALIGNMENT.  Source: the specification of GGUF version 3 in ggml's documentation.
"""
import struct

ALIGNMENT = 32
F32 = 0
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
PACKED = {UINT32: '<I', INT32: '<i', FLOAT32: '<f', BOOL: '<?'}


def _string(text):
    data = text.encode()
    return struct.pack('<Q', len(data)) + data


def _value(kind, value):
    return _string(value) if kind == STRING else struct.pack(PACKED[kind], value)


def _padding(length):
    return b'\0' * (-length % ALIGNMENT)


class Writer:
    def __init__(self):
        self.pairs = []
        self.tensors = []

    def add(self, key, kind, value):
        self.pairs.append(_string(key) + struct.pack('<I', kind) + _value(kind, value))

    def add_array(self, key, kind, values):
        self.pairs.append(_string(key) + struct.pack('<IIQ', ARRAY, kind, len(values))
                          + b''.join(_value(kind, value) for value in values))

    def add_tensor(self, name, shape, data):
        """Adds a tensor of F32 in row-major order; `shape` names the slowest dimension first, `data` is bytes."""
        self.tensors.append((name, shape, data))

    def write(self, path):
        head = b'GGUF' + struct.pack('<IQQ', 3, len(self.tensors), len(self.pairs)) + b''.join(self.pairs)
        offset = 0
        for name, shape, data in self.tensors:
            head += _string(name) + struct.pack('<I', len(shape))
            head += b''.join(struct.pack('<Q', length) for length in reversed(shape))
            head += struct.pack('<IQ', F32, offset)
            offset += len(data) + len(_padding(len(data)))
        with open(path, 'wb') as file:
            file.write(head + _padding(len(head)))
            for _, _, data in self.tensors:
                file.write(data + _padding(len(data)))
