package main

import (
	"context"
	"errors"
	"io"
)

func runLab(ctx context.Context, o options, chosen []string, r *results, progress io.Writer) error {
	return errors.New("x")
}
