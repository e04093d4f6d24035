package listen

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"accessor/api/access"
)

// Tokens are JSON web tokens (RFC 7519) signed with HS256, as in Ethereum's Engine
// API, by a secret that one client and the accessor have. They are read here and
// not by a library, since of the standard a single way is taken: one algorithm, no
// keys from the token, no encryption. That way is shorter than the settings that
// would keep a library to it.

// ClockSkew is by how much a token's iat may differ from now.
const ClockSkew = 60 * time.Second

// maxToken is the most bytes of a token.
const maxToken = 4096

// TokenClient is a client over TCP: its secret, and what it may do with it.
type TokenClient struct {
	// KID names the client in its tokens' header.
	KID string
	// Secret signs them. See ReadSecret.
	Secret []byte
	// Roles are the most that a token of it gives.
	Roles access.Roles
}

// Tokens says what tokens prove. It is safe for concurrent use. See NewTokens.
type Tokens struct {
	clients map[string]TokenClient
	now     func() time.Time
}

// NewTokens takes the tokens of these clients. Errors: ErrSecret for a secret
// that is too short, or a kid that is empty or comes twice.
func NewTokens(clients []TokenClient) (*Tokens, error) {
	t := &Tokens{clients: make(map[string]TokenClient, len(clients)), now: time.Now}
	for _, c := range clients {
		_, twice := t.clients[c.KID]
		switch {
		case c.KID == "":
			return nil, fmt.Errorf("%w: a client has no kid", ErrSecret)
		case twice:
			return nil, fmt.Errorf("%w: two clients are called %q", ErrSecret, c.KID)
		case len(c.Secret) < MinSecret:
			return nil, fmt.Errorf("%w of %q: %d bytes, want %d or more", ErrSecret, c.KID, len(c.Secret), MinSecret)
		}
		t.clients[c.KID] = c
	}
	return t, nil
}

// tokenHeader is what is read of a token's header. Members that it doesn't name
// are ignored, as the standard has it, but crit, which forbids that.
type tokenHeader struct {
	Alg  string          `json:"alg"`
	KID  string          `json:"kid"`
	Crit json.RawMessage `json:"crit"`
}

// tokenClaims is what is read of a token's claims.
type tokenClaims struct {
	IAT   *float64  `json:"iat"`
	NBF   *float64  `json:"nbf"`
	EXP   *float64  `json:"exp"`
	Roles *[]string `json:"roles"`
}

// Check says whose token it is, and which roles it gives: those of its client, or
// fewer where it claims fewer. Error: ErrToken; the text is one for the client and
// says nothing of secrets.
func (t *Tokens) Check(token string) (kid string, roles access.Roles, err error) {
	kid, roles, err = t.check(token)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return kid, roles, nil
}

func (t *Tokens) check(token string) (kid string, roles access.Roles, err error) {
	if len(token) > maxToken {
		return "", 0, fmt.Errorf("longer than %d bytes", maxToken)
	}
	signed, signature, ok := cutLast(token, '.')
	head, body, ok2 := strings.Cut(signed, ".")
	if !ok || !ok2 || strings.Contains(body, ".") {
		return "", 0, errors.New("want three parts with dots between")
	}
	var header tokenHeader
	if err := decodePart(head, &header); err != nil {
		return "", 0, fmt.Errorf("header: %w", err)
	}
	// None of what the header says is believed before this: no algorithm but the
	// one is ever taken.
	if header.Alg != "HS256" {
		return "", 0, errors.New("alg is not HS256")
	}
	if header.Crit != nil {
		return "", 0, errors.New("crit names extensions that are not known here")
	}
	client, ok := t.clients[header.KID]
	if !ok {
		return "", 0, errors.New("kid names no client")
	}
	mac, err := partEncoding.DecodeString(signature)
	if err != nil {
		return "", 0, errors.New("signature: not base64url")
	}
	sum := hmac.New(sha256.New, client.Secret)
	sum.Write([]byte(signed))
	if !hmac.Equal(sum.Sum(nil), mac) {
		return "", 0, errors.New("signed with another secret than its client's")
	}
	var claims tokenClaims
	if err := decodePart(body, &claims); err != nil {
		return "", 0, fmt.Errorf("claims: %w", err)
	}
	if err := claims.checkTime(t.now()); err != nil {
		return "", 0, err
	}
	roles, err = claims.narrow(client.Roles)
	return client.KID, roles, err
}

// checkTime says whether the token was made just now and is in its time.
func (c *tokenClaims) checkTime(now time.Time) error {
	unix := float64(now.UnixMilli()) / 1000
	skew := ClockSkew.Seconds()
	switch {
	case c.IAT == nil:
		return errors.New("no iat: when was it made?")
	case math.Abs(unix-*c.IAT) > skew:
		return fmt.Errorf("iat is %.0f s from this machine's time, %d, want %v at most: make a new token, or set the clock",
			math.Abs(unix-*c.IAT), now.Unix(), ClockSkew)
	case c.NBF != nil && *c.NBF > unix+skew:
		return errors.New("nbf: not yet valid")
	case c.EXP != nil && *c.EXP < unix:
		return errors.New("exp: expired")
	}
	return nil
}

// narrow takes from a client's roles those that the token doesn't claim, where it
// claims any.
func (c *tokenClaims) narrow(roles access.Roles) (access.Roles, error) {
	if c.Roles == nil {
		return roles, nil
	}
	if len(*c.Roles) == 0 {
		return 0, nil
	}
	claimed, err := access.ParseRoles(*c.Roles)
	return roles & claimed, err
}

// partEncoding is base64url without padding, of which each text has one form.
var partEncoding = base64.RawURLEncoding.Strict()

// decodePart reads one JSON object.
func decodePart(part string, into any) error {
	// The encoding skips line ends, which a token doesn't have.
	if strings.ContainsAny(part, "\r\n") {
		return errors.New("not base64url")
	}
	text, err := partEncoding.DecodeString(part)
	if err != nil {
		return errors.New("not base64url")
	}
	if !bytes.HasPrefix(text, []byte("{")) || json.Unmarshal(text, into) != nil {
		return errors.New("not the JSON object that it should be")
	}
	return nil
}

// cutLast cuts a text at the last separator.
func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
