package main

import (
	"context"
	"crypto/subtle"
	"errors"
)

// plain keeps the secrets of clients as they are. That is enough for those of tests.
type plain struct{}

// Hash implements fosite.Hasher.
func (plain) Hash(_ context.Context, data []byte) ([]byte, error) { return data, nil }

// Compare implements fosite.Hasher.
func (plain) Compare(_ context.Context, hash, data []byte) error {
	if subtle.ConstantTimeCompare(hash, data) != 1 {
		return errors.New("another secret")
	}
	return nil
}
