package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
)

// sign makes a token for one request: a JWT of now, signed by HMAC-SHA-256.
func sign(kid string, secret []byte, now time.Time) string {
	name, _ := json.Marshal(kid) // a string always can be
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT","kid":`+string(name)+`}`)) +
		"." + base64.RawURLEncoding.EncodeToString([]byte(`{"iat":`+strconv.FormatInt(now.Unix(), 10)+`}`))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
