"""The pages of the admin: `looking` asks Redis, `words` says it, `acting` changes it, `views` answer requests."""
