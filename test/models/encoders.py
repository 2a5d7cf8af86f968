#!/usr/bin/env python3
"""Makes the two text encoders of the tests, as GGUF files for llama-server.

Usage: encoders.py MODEL_DIR OUT_DIR

minilm.gguf: all-MiniLM-L6-v2, 384 dimensions, from MODEL_DIR as sentence-transformers keeps it (model.safetensors,
config.json, vocab.txt).  random768.gguf: the same kind of network with 768 dimensions, one layer and random weights,
which means nothing and proves that vectors of that length pass.
"""
import array
import json
import pathlib
import random
import struct
import sys

import gguf

# Names in the file of weights, and what llama.cpp calls the same tensor.
EMBEDDINGS = {
    'word_embeddings': 'token_embd',
    'position_embeddings': 'position_embd',
    'token_type_embeddings': 'token_types',
    'LayerNorm': 'token_embd_norm',
}
LAYER = {
    'attention.self.query': 'attn_q',
    'attention.self.key': 'attn_k',
    'attention.self.value': 'attn_v',
    'attention.output.dense': 'attn_output',
    'attention.output.LayerNorm': 'attn_output_norm',
    'intermediate.dense': 'ffn_up',
    'output.dense': 'ffn_down',
    'output.LayerNorm': 'layer_output_norm',
}
SPECIAL = {'[CLS]': 'bos', '[SEP]': 'eos', '[UNK]': 'unknown', '[PAD]': 'padding', '[MASK]': 'mask'}
POOLING_MEAN = 1
TOKEN_NORMAL, TOKEN_CONTROL = 1, 3


def is_special(token):
    return token.startswith('[') and token.endswith(']') and len(token) > 2


def piece(token):
    """A token as llama.cpp's WordPiece wants it: the first piece of a word is marked, the others are not."""
    if is_special(token):
        return token
    return token[2:] if token.startswith('##') and len(token) > 2 else '\u2581' + token


def bert(name, config, vocabulary):
    """A file of this network, without tensors yet."""
    out = gguf.Writer()
    out.add('general.architecture', gguf.STRING, 'bert')
    out.add('general.name', gguf.STRING, name)
    out.add('general.file_type', gguf.UINT32, gguf.F32)
    for key, value in (('context_length', config['max_position_embeddings']), ('embedding_length', config['hidden_size']),
                       ('block_count', config['num_hidden_layers']), ('feed_forward_length', config['intermediate_size']),
                       ('attention.head_count', config['num_attention_heads']), ('vocab_size', len(vocabulary)),
                       ('pooling_type', POOLING_MEAN)):
        out.add('bert.' + key, gguf.UINT32, value)
    out.add('bert.attention.layer_norm_epsilon', gguf.FLOAT32, config['layer_norm_eps'])
    out.add('bert.attention.causal', gguf.BOOL, False)
    out.add('tokenizer.ggml.model', gguf.STRING, 'bert')
    out.add('tokenizer.ggml.pre', gguf.STRING, 'jina-v2-en')
    out.add('tokenizer.ggml.token_type_count', gguf.UINT32, config['type_vocab_size'])
    out.add_array('tokenizer.ggml.tokens', gguf.STRING, [piece(token) for token in vocabulary])
    out.add_array('tokenizer.ggml.token_type', gguf.INT32,
                  [TOKEN_CONTROL if is_special(token) else TOKEN_NORMAL for token in vocabulary])
    for token, role in SPECIAL.items():
        out.add(f'tokenizer.ggml.{role}_token_id', gguf.UINT32, vocabulary.index(token))
    out.add('tokenizer.ggml.seperator_token_id', gguf.UINT32, vocabulary.index('[SEP]'))  # as it is spelt there
    return out


def tensor_name(key):
    """What llama.cpp calls a tensor of the file of weights; None for what a mean over tokens has no use for."""
    stem, _, kind = key.rpartition('.')
    if stem.startswith('embeddings.'):
        stem = EMBEDDINGS.get(stem.removeprefix('embeddings.'))
    elif stem.startswith('encoder.layer.'):
        number, rest = stem.removeprefix('encoder.layer.').split('.', 1)
        stem = f'blk.{number}.{LAYER[rest]}'
    else:
        return None
    return stem and f'{stem}.{kind}'


def read_safetensors(path):
    """Yields name, shape and bytes of each tensor.  The file: length of a JSON header, the header, the data."""
    data = path.read_bytes()
    (length,) = struct.unpack_from('<Q', data)
    header = json.loads(data[8:8 + length])
    header.pop('__metadata__', None)
    for name, tensor in header.items():
        if tensor_name(name):
            if tensor['dtype'] != 'F32':
                sys.exit(f'{path}: {name} is of type {tensor["dtype"]}, not F32')
            start, end = (8 + length + offset for offset in tensor['data_offsets'])
            yield name, tensor['shape'], data[start:end]


def random_tensors(config, vocabulary):
    generator = random.Random(768)
    width, inner = config['hidden_size'], config['intermediate_size']
    layer = 'encoder.layer.0.'

    def weights(*shape):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        return list(shape), array.array('f', (generator.uniform(-0.05, 0.05) for _ in range(count))).tobytes()

    yield ('embeddings.word_embeddings.weight', *weights(len(vocabulary), width))
    yield ('embeddings.position_embeddings.weight', *weights(config['max_position_embeddings'], width))
    yield ('embeddings.token_type_embeddings.weight', *weights(config['type_vocab_size'], width))
    for norm in ('embeddings.LayerNorm', layer + 'attention.output.LayerNorm', layer + 'output.LayerNorm'):
        yield norm + '.weight', [width], array.array('f', [1.0] * width).tobytes()
        yield norm + '.bias', [width], array.array('f', [0.0] * width).tobytes()
    for part in ('attention.self.query', 'attention.self.key', 'attention.self.value', 'attention.output.dense'):
        yield (f'{layer}{part}.weight', *weights(width, width))
        yield (f'{layer}{part}.bias', *weights(width))
    yield (layer + 'intermediate.dense.weight', *weights(inner, width))
    yield (layer + 'intermediate.dense.bias', *weights(inner))
    yield (layer + 'output.dense.weight', *weights(width, inner))
    yield (layer + 'output.dense.bias', *weights(width))


def write(path, name, config, vocabulary, tensors):
    out = bert(name, config, vocabulary)
    for key, shape, data in tensors:
        out.add_tensor(tensor_name(key), shape, data)
    out.write(path)


def main(model, folder):
    config = json.loads((model / 'config.json').read_text())
    vocabulary = (model / 'vocab.txt').read_text(encoding='utf-8').splitlines()
    write(folder / 'minilm.gguf', 'all-MiniLM-L6-v2', config, vocabulary, read_safetensors(model / 'model.safetensors'))

    config |= {'hidden_size': 768, 'intermediate_size': 768, 'num_hidden_layers': 1, 'num_attention_heads': 12}
    pieces = [token for token in vocabulary if token in SPECIAL or len(token.removeprefix('##')) <= 2]
    write(folder / 'random768.gguf', 'random encoder', config, pieces, random_tensors(config, pieces))


main(*map(pathlib.Path, sys.argv[1:]))
