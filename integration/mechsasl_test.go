//go:build integration

package integration

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// saslClient is the client's side of a mechanism. Done says what the client is to
// know of the server before it believes that it is logged in.
type saslClient interface {
	sasl.Client
	Done() error
}

// newSASL is a client of a mechanism.
func newSASL(mechanism, user, secret string) saslClient {
	switch mechanism {
	case login.ScramSHA256:
		return &scramClient{mechanism: mechanism, user: user, password: secret, hash: sha256.New}
	case login.ScramSHA1:
		return &scramClient{mechanism: mechanism, user: user, password: secret, hash: sha1.New}
	case login.CramMD5:
		return &cramClient{user: user, password: secret}
	case login.XOAuth2:
		return &tokenClient{mechanism: mechanism, message: "user=" + user + "\x01auth=Bearer " + secret + "\x01\x01"}
	case login.OAuthBearer:
		name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
		return &tokenClient{
			mechanism: mechanism, last: "\x01",
			message: "n,a=" + name + ",\x01host=mail.internal\x01port=993\x01auth=Bearer " + secret + "\x01\x01",
		}
	}
	panic("no client for " + mechanism)
}

// tokenClient says all it knows at once.
type tokenClient struct {
	mechanism, message, last string
	// fault is what the server has told about a token that it does not take.
	fault string
}

func (c *tokenClient) Start() (string, []byte, error) { return c.mechanism, []byte(c.message), nil }
func (c *tokenClient) Done() error                    { return nil }

func (c *tokenClient) Next(challenge []byte) ([]byte, error) {
	if c.fault != "" {
		return nil, errors.New("asked twice after the token")
	}
	c.fault = string(challenge)
	return []byte(c.last), nil
}

// cramClient is CRAM-MD5 (RFC 2195).
type cramClient struct {
	user, password string
}

func (c *cramClient) Start() (string, []byte, error) { return login.CramMD5, nil, nil }
func (c *cramClient) Done() error                    { return nil }

func (c *cramClient) Next(challenge []byte) ([]byte, error) {
	mac := hmac.New(md5.New, []byte(c.password))
	mac.Write(challenge)
	digest := hex.EncodeToString(mac.Sum(nil))
	secret(string(challenge))
	secret(digest)
	return []byte(c.user + " " + digest), nil
}

// scramClient is SCRAM (RFC 5802), which has the server prove itself as well.
type scramClient struct {
	mechanism, user, password string
	hash                      func() hash.Hash
	// authzID is whose mailbox is wanted, if it is another's.
	authzID string

	first, nonce string
	signature    []byte
	step         int
}

func (c *scramClient) Start() (string, []byte, error) {
	c.nonce = secret(rand.Text())
	c.first = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.user) + ",r=" + c.nonce
	return c.mechanism, []byte(c.header() + c.first), nil
}

func (c *scramClient) header() string {
	if c.authzID == "" {
		return "n,,"
	}
	return "n,a=" + c.authzID + ","
}

// errSignature says that the server does not know the secret.
var errSignature = errors.New("the server has not proved itself")

func (c *scramClient) Done() error {
	if c.step != 2 {
		return errSignature
	}
	return nil
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	c.step++
	switch c.step {
	case 1:
		return c.proof(string(challenge))
	case 2:
		v, found := bytes.CutPrefix(challenge, []byte("v="))
		signature, err := base64.StdEncoding.DecodeString(string(v))
		if !found || err != nil || !hmac.Equal(signature, c.signature) {
			return nil, errSignature
		}
		return []byte{}, nil
	}
	return nil, errors.New("asked once more than SCRAM has it")
}

func (c *scramClient) proof(first string) ([]byte, error) {
	fields := strings.Split(first, ",")
	if len(fields) != 3 || !strings.HasPrefix(fields[0], "r="+c.nonce) {
		return nil, fmt.Errorf("server's first message %q", first)
	}
	salt, err1 := base64.StdEncoding.DecodeString(strings.TrimPrefix(fields[1], "s="))
	rounds, err2 := strconv.Atoi(strings.TrimPrefix(fields[2], "i="))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	salted, err := pbkdf2.Key(c.hash, c.password, salt, rounds, c.hash().Size())
	if err != nil {
		return nil, err
	}
	bare := "c=" + b64(c.header()) + "," + fields[0]
	signed := c.first + "," + first + "," + bare
	key := c.mac(salted, "Client Key")
	stored := c.hash()
	stored.Write(key)
	proof := c.mac(stored.Sum(nil), signed)
	for i := range proof {
		proof[i] ^= key[i]
	}
	c.signature = c.mac(c.mac(salted, "Server Key"), signed)
	coded := base64.StdEncoding.EncodeToString(proof)
	for _, s := range []string{fields[0][2:], fields[1][2:], coded, base64.StdEncoding.EncodeToString(c.signature)} {
		secret(s)
	}
	return []byte(bare + ",p=" + coded), nil
}

func (c *scramClient) mac(key []byte, text string) []byte {
	m := hmac.New(c.hash, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
