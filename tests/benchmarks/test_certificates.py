"""Certificates that broker and clients take."""

import os
import ssl

import pytest

from benchmarks.cluster.certificates import issue
from contract.errors import StackError
from nextwatch.embedded.broker import choose_engine


def test_the_key_in_pem_is_the_one_of_the_certificate(tmp_path):
    """Python's TLS refuses a pair that does not fit."""
    try:
        distribution = choose_engine(os.environ, may_fall_back=False).distribution
    except StackError as error:
        pytest.skip(str(error))
    made = issue(tmp_path, "player", distribution.java)
    context = ssl.create_default_context(cafile=made.certificate)
    context.load_cert_chain(made.certificate, made.key)

    [trusted] = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "player"),),)
