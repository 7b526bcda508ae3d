#!/usr/bin/env bash
# Run by LocalStack once it is ready: makes the function. Never run, like compose.yaml, which mounts it.
set -euo pipefail
variables='AWS_ENDPOINT_URL_S3=http://minio:9000,VOXMILL_INPUTS=s3://voxmill-local/,VOXMILL_OUTPUTS=s3://voxmill-local/'
variables+=',AWS_ACCESS_KEY_ID=AKIAVOXMILLLOCAL0000,AWS_SECRET_ACCESS_KEY=voxmill-local-secret'
awslocal lambda create-function --function-name voxmill --runtime provided.al2023 --handler bootstrap \
    --role arn:aws:iam::000000000000:role/local --zip-file fileb:///opt/voxmill-function.zip \
    --memory-size 2048 --timeout 900 --environment "Variables={$variables}"
awslocal lambda wait function-active-v2 --function-name voxmill
