"""The pages of the admin: `looking` asks Redis, `words` and `rows` say it, `acting` changes it, `views` answer."""
