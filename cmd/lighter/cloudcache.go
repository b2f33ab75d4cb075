package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/lighter-oci/lighter/internal/engine"
)

// cloudFromEnv fills in what a cloud cache finds in the environment of the
// command, as docker buildx does: the engine may have been started from
// another one.
func cloudFromEnv(e engine.Entry) error {
	switch e.Type {
	case "gha":
		setDefault(e, "token", os.Getenv("ACTIONS_RUNTIME_TOKEN"))
		setDefault(e, "url", os.Getenv("ACTIONS_CACHE_URL"))
		setDefault(e, "url_v2", os.Getenv("ACTIONS_RESULTS_URL"))
	case "s3":
		return s3FromEnv(e)
	}
	return nil
}

func setDefault(e engine.Entry, attr, value string) {
	if e.Attrs[attr] == "" && value != "" {
		e.Attrs[attr] = value
	}
}

// s3FromEnv takes region and credentials from the AWS variables and profiles.
// An instance's own role is left to the engine, which asks for it when there is
// nothing else.
func s3FromEnv(e engine.Entry) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	setDefault(e, "region", cfg.Region)
	if e.Attrs["access_key_id"] != "" || cfg.Credentials == nil {
		return nil
	}
	cred, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil // anonymous, or an instance's role
	}
	setDefault(e, "access_key_id", cred.AccessKeyID)
	setDefault(e, "secret_access_key", cred.SecretAccessKey)
	setDefault(e, "session_token", cred.SessionToken)
	return nil
}
