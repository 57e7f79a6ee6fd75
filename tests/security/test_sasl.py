"""The client's side of SASL: the examples of the RFCs, and brokers that are not what they say."""

from base64 import b64decode

import pytest

from ottla.security.sasl import Credentials, SaslError, Scram

NONCE = b64decode("rOprNGfwEbeRWgbNEkqO")
FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def scram():
    """The exchange of RFC 7677, section 3."""
    return Scram("sha256", "user", "pencil", NONCE)


def test_the_example_of_the_rfc():
    it = scram()
    assert it.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert it.answer(FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert not it.is_done
    assert it.answer(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    assert it.is_done


@pytest.mark.parametrize(
    ("challenge", "cause"),
    [
        (FIRST.replace(b"i=4096", b"i=1"), "1 iterations"),
        (FIRST.replace(b"i=4096", b"i=99999999"), "99999999 iterations"),
        (FIRST.replace(b"i=4096", b"i=" + b"9" * 5_000), "no number"),
        (FIRST.replace(b"i=4096", b"i=-4096"), "no number"),
        (FIRST.replace(b"rOprN", b"rOprX"), "nonce"),
        (FIRST.replace(b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", b""), "nonce"),
        (FIRST.replace(b"s=W22", b"s=?"), "'s'"),
        (b"m=x," + FIRST, "extension"),
        (b"e=other-error", "other-error"),
        (b"", "not of SCRAM"),
        (b"\xff\xfe", "no text"),
        (b"r", "not of SCRAM"),
    ],
)
def test_a_challenge_that_is_none(challenge, cause):
    with pytest.raises(SaslError, match=cause):
        scram().answer(challenge)


@pytest.mark.parametrize("last", [b"v=AAAA", b"v=", b"v=?", b"x=1", b"e=invalid-proof"])
def test_a_broker_that_does_not_know_the_password(last):
    it = scram()
    it.answer(FIRST)
    with pytest.raises(SaslError):
        it.answer(last)
    assert not it.is_done


def test_the_others_and_names_with_signs_of_their_own():
    assert Credentials("PLAIN", "me", "secret").begin(b"").first() == b"\0me\0secret"
    bearer = Credentials("OAUTHBEARER", token=lambda: "").begin(b"", "abc")
    assert bearer.first() == b"n,,\1auth=Bearer abc\1\1"
    assert bearer.answer(b'{"status":"invalid_token"}') == b"\1"
    assert Credentials("SCRAM-SHA-512", "a=b,c", "x").begin(NONCE).first() == (
        b"n,,n=a=3Db=2Cc,r=rOprNGfwEbeRWgbNEkqO"
    )
    assert "secret" not in repr(Credentials("PLAIN", "me", "secret"))
