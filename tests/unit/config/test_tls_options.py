"""Whether, where and with what TLS is spoken."""

from pathlib import Path

import pytest

from coderd.config.server import ServerConfig, parse_server_config
from coderd.config.tls import CertificateFiles, TlsOptions
from coderd.model.errors import Exit, UserError

HTTPS = "https://coder.example.com"
FILES = {"tls_cert_file": "chain.pem", "tls_key_file": "key.pem"}
OPTIONS = TlsOptions(certificates=(CertificateFiles(Path("chain.pem"), Path("key.pem")),))


def parse(**flags: str) -> ServerConfig:
    return parse_server_config({"access_url": HTTPS, **flags}, {})


def test_an_https_url_alone_has_the_server_speak_tls_with_a_certificate_of_its_own() -> None:
    config = parse()
    assert (config.http_address, config.tls_address, config.tls) == (None, ("::", 443), TlsOptions())


def test_with_http_address_somebody_else_speaks_tls_before_us() -> None:
    config = parse(http_address="[::1]:3000")
    assert (config.http_address, config.tls_address, config.tls) == (("::1", 3000), None, None)


def test_files_mean_tls_at_http_address() -> None:
    config = parse(http_address=":8443", **FILES)
    assert (config.http_address, config.tls_address, config.tls) == (None, ("::", 8443), OPTIONS)


def test_with_an_address_for_each_both_are_served() -> None:
    config = parse(http_address=":80", tls_address=":443", **FILES)
    assert (config.http_address, config.tls_address, config.tls) == (("::", 80), ("::", 443), OPTIONS)


def test_an_http_url_has_tls_only_where_it_is_asked_for() -> None:
    assert parse(access_url="http://192.0.2.10:3000").tls is None
    config = parse(access_url="http://192.0.2.10:3000", tls_enable="true")
    assert (config.tls_address, config.tls) == (("::", 3443), TlsOptions())


def test_several_certificates_come_with_as_many_keys() -> None:
    config = parse(tls_cert_file="a.pem,b.pem", tls_key_file="a.key, b.key")
    assert config.tls is not None
    assert config.tls.certificates[1] == CertificateFiles(Path("b.pem"), Path("b.key"))


def test_the_environment_speaks_coders_names() -> None:
    environment = {
        "CODER_TLS_CERT_FILE": "chain.pem",
        "CODER_TLS_KEY_FILE": "key.pem",
        "CODER_TLS_MIN_VERSION": "tls13",
    }
    config = parse_server_config({"access_url": HTTPS}, environment)
    assert config.tls == TlsOptions(certificates=OPTIONS.certificates, min_version=(1, 3))


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"tls_cert_file": "chain.pem"}, "--tls-key-file"),
        ({"tls_key_file": "key.pem"}, "--tls-cert-file"),
        ({"tls_cert_file": "a,b", "tls_key_file": "c"}, "2 certificates and 1 keys"),
        ({"tls_min_version": "tls10", "tls_enable": "true"}, "--tls-min-version"),
        ({"tls_enable": "false", **FILES}, "switched off by --tls-enable"),
        ({"tls_address": "nowhere"}, "--tls-address"),
        ({"tls_enable": "perhaps"}, "neither true nor false"),
    ],
)
def test_what_cannot_be_is_refused_by_name(flags: dict[str, str], word: str) -> None:
    with pytest.raises(UserError, match=word) as refusal:
        parse(**flags)
    assert refusal.value.exit_code is Exit.USAGE
