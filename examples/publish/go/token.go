package main

import "fmt"
import "regexp"

// token is an id as it stands in a subject: every byte but A–Z a–z 0–9 - _ is %XX.
func token(id string) string {
	escape := func(c string) string { return fmt.Sprintf("%%%X", c) }
	return regexp.MustCompile(`[^A-Za-z0-9_-]`).ReplaceAllStringFunc(id, escape)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
